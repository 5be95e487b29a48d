//! `nexuserofs manifest` and `nexuserofs policy`.

use std::fs;

use nexuserofs::image::digest::Digest;
use serde_json::Value;

use super::super::daemon::Place;
use super::{DATA, USAGE, layout, refused, tar, tool};

/// What the tool prints, which must succeed.
fn printed(arguments: &[&str]) -> String {
    let output = tool(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Puts what the tool prints into a file and returns its name.
fn kept(place: &Place, name: &str, arguments: &[&str]) -> String {
    fs::write(place.path(name), printed(arguments)).expect("file");
    place.arg(name)
}

/// RFC 8410, section 10: a private key as openssl writes it, and its public key.
const KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
    -----END PRIVATE KEY-----\n";
const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
    MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
    -----END PUBLIC KEY-----\n";
/// Another private key, and its public key as policies have it.
const OTHER_KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB\n\
    -----END PRIVATE KEY-----\n";
const OTHER_PUBLIC: &str = "iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w";

/// Puts a text into a file and returns its name.
fn file(place: &Place, name: &str, text: &str) -> String {
    fs::write(place.path(name), text).expect("file");
    place.arg(name)
}

#[test]
fn the_same_image_gives_the_same_manifest_and_tars_the_same_layers() {
    let place = Place::new();
    let one = tar(&place, "one");
    let bytes = fs::read(&one).expect("tar");
    let source = layout(&place, "source", &bytes, Digest::of(&bytes));
    let of_tars = ["manifest", "compute", "--platform", "linux/amd64", &one];
    let text = printed(&of_tars);
    assert_eq!(printed(&of_tars), text);
    let document: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(document["manifest"]["layers"][0]["diff_id"], Digest::of(&bytes).to_string());
    // The helper's image does not say what it runs on.
    refused(&["manifest", "compute", &source], DATA, "is not a word");
    refused(&["manifest", "compute", &one], USAGE, "--platform");
}

#[test]
fn a_signed_manifest_is_what_policies_ask_for() {
    let place = Place::new();
    let one = tar(&place, "one");
    let manifest = kept(&place, "manifest", &["manifest", "compute", "--platform", "linux/amd64", &one]);
    let (key, public) = (file(&place, "key", KEY), file(&place, "public", PUBLIC));
    let other_key = file(&place, "other", OTHER_KEY);
    let sign = |key: &str, version: &str| {
        ["manifest", "sign", "--key", key, "--version", version, "--name", "app", &manifest]
            .map(str::to_owned)
    };
    let signed = sign(&key, "7");
    let signed = kept(&place, "signed", &signed.each_ref().map(String::as_str));
    let emit = |name: &str, arguments: &[&str]| {
        kept(&place, name, &[&["policy", "emit", "--format", "json"], arguments].concat())
    };

    let exact = emit("exact", &[&manifest]);
    let by_key = emit("by_key", &["--key", &public, "--minimum-version", "7", "--name", "app"]);
    for policy in [&exact, &by_key] {
        let hash = printed(&["manifest", "verify", "--policy", policy, &signed]);
        assert!(printed(&["manifest", "show", &signed]).contains(hash.trim()), "{hash}");
    }
    refused(&["manifest", "verify", "--policy", &by_key, &manifest], DATA, "unsigned");
    let newer = emit("newer", &["--key", &public, "--minimum-version", "8"]);
    refused(&["manifest", "verify", "--policy", &newer, &signed], DATA, "version_too_old");
    let another = emit("another", &["--key", OTHER_PUBLIC]);
    refused(&["manifest", "verify", "--policy", &another, &signed], DATA, "key_not_allowed");

    // A second signature by the same key takes the place of the first; one by another key does not.
    let again = |key: &str, from: &str, name: &str| {
        kept(&place, name, &["manifest", "sign", "--key", key, "--version", "8", from])
    };
    let document =
        |path: &str| -> Value { serde_json::from_slice(&fs::read(path).expect("file")).expect("JSON") };
    let twice = again(&key, &signed, "twice");
    assert_eq!(document(&twice)["signatures"].as_array().map(Vec::len), Some(1));
    let both = again(&other_key, &twice, "both");
    assert_eq!(document(&both)["signatures"].as_array().map(Vec::len), Some(2));
    printed(&["manifest", "verify", "--policy", &newer, &both]);

    fs::write(place.path("blank"), format!(" {}", fs::read_to_string(&signed).expect("file"))).expect("file");
    refused(&["manifest", "show", &place.arg("blank")], DATA, "is no layers manifest");
    refused(&["manifest", "sign", "--key", &public, "--version", "1", &manifest], DATA, "has no key");
}

#[test]
fn policies_come_in_every_form() {
    let place = Place::new();
    let one = tar(&place, "one");
    let manifest = kept(&place, "manifest", &["manifest", "compute", "--platform", "linux/amd64", &one]);
    let emit = |format: &str| printed(&["policy", "emit", "--format", format, &manifest]);
    let shown = printed(&["manifest", "show", &manifest]);
    let hash =
        shown.lines().next().and_then(|line| line.split_whitespace().last()).expect("a hash").to_owned();
    assert_eq!(emit("cmdline").trim(), format!("nexuserofs.image_hash={hash}"));
    assert!(emit("json").contains(&hash));
    assert!(emit("initdata").contains("\"nexuserofs-policy.json\" = '''"));
    let document: Value = serde_json::from_slice(&fs::read(&manifest).expect("file")).expect("JSON");
    let root = document["manifest"]["layers"][0]["verity"]["root_digest"].as_str().expect("root").to_owned();
    assert!(emit("rego").contains(root.trim_start_matches("sha256:")));
    refused(&["policy", "emit", "--format", "rego", "--key", &hash], USAGE, "their manifests");
    refused(&["policy", "emit", "--format", "json"], USAGE, "");
}
