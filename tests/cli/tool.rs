//! The operator's tool: the real program on real files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nexuserofs::image::digest::Digest;
use serde_json::{Value, json};

use super::daemon::Place;

const USAGE: i32 = 64;
const DATA: i32 = 65;

fn tool(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nexuserofs")).args(arguments).output().expect("program")
}

/// Runs the tool with `--json`, which must succeed, and returns state and diffID of each line.
fn states(arguments: &[&str]) -> Vec<(String, String)> {
    let output = tool(&[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = |line: &Value, key: &str| line[key].as_str().expect("text").to_owned();
    lines.iter().map(|line| (text(line, "state"), text(line, "diff_id"))).collect()
}

/// A tar with one file that is named like it, made by GNU tar.
fn tar(place: &Place, name: &str) -> String {
    let directory = place.path(&format!("{name}.d"));
    fs::create_dir(&directory).expect("directory");
    fs::write(directory.join(name), name).expect("file");
    let file = place.arg(name);
    let made = Command::new("tar")
        .args(["--create", "--file", &file, "--directory"])
        .arg(&directory)
        .arg(".")
        .status();
    assert!(made.expect("tar").success());
    file
}

fn file_of(cache: &Path, diff_id: &str) -> PathBuf {
    let hex = diff_id.trim_start_matches("sha256:");
    cache.join("sha256").join(&hex[..2]).join(format!("{hex}.erofs"))
}

#[test]
fn a_tar_is_added_once_listed_and_verified() {
    let place = Place::new();
    let (cache, one, two) = (place.arg("cache"), tar(&place, "one"), tar(&place, "two"));
    let added = states(&["cache", "add", &cache, &one, &two]);
    assert!(added.iter().all(|(state, _)| state == "added"), "{added:?}");
    assert_eq!(added.len(), 2);
    let compressed = Command::new("gzip").args(["--keep", &one]).status();
    assert!(compressed.expect("gzip").success());
    let again = states(&["cache", "add", &cache, &format!("{one}.gz")]);
    assert_eq!(again, [("present".to_owned(), added[0].1.clone())], "another blob of the same tar");
    assert_eq!(states(&["cache", "list", &cache]).len(), 2);
    assert!(states(&["cache", "verify", &cache]).iter().all(|(state, _)| state == "whole"));
}

#[test]
fn what_is_damaged_is_named_and_replaced() {
    let place = Place::new();
    let (cache, one) = (place.arg("cache"), tar(&place, "one"));
    let diff_id = states(&["cache", "add", &cache, &one])[0].1.clone();
    let file = file_of(&place.path("cache"), &diff_id);
    let whole = fs::read(&file).expect("file");
    fs::write(&file, &whole[..4096]).expect("cut");
    let verified = tool(&["cache", "verify", &cache]);
    assert_eq!(verified.status.code(), Some(DATA));
    let said = String::from_utf8(verified.stdout).expect("UTF-8");
    assert!(said.contains(&diff_id) && said.contains("refused: it has 4096 bytes"), "{said}");
    assert_eq!(states(&["cache", "add", &cache, &one])[0].0, "added");
    assert_eq!(fs::read(&file).expect("file"), whole);
}

/// Puts a blob into an OCI image layout and returns its digest.
fn blob(layout: &Path, bytes: &[u8]) -> Digest {
    let digest = Digest::of(bytes);
    fs::write(layout.join("blobs/sha256").join(digest.hex()), bytes).expect("blob");
    digest
}

/// An OCI image layout with an index, as tools for several machines write it, of one image with one layer,
/// whose configuration names `diff_id`.
fn layout(place: &Place, name: &str, tar: &[u8], diff_id: Digest) -> String {
    let layout = place.path(name);
    fs::create_dir_all(layout.join("blobs/sha256")).expect("layout");
    let layer = blob(&layout, tar);
    let config = blob(&layout, json!({ "rootfs": { "diff_ids": [diff_id] } }).to_string().as_bytes());
    let layers = [json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer })];
    let manifest = json!({ "config": { "digest": config }, "layers": layers });
    let manifest = blob(&layout, manifest.to_string().as_bytes());
    let index = blob(&layout, json!({ "manifests": [{ "digest": manifest }] }).to_string().as_bytes());
    let top = json!({ "manifests": [{ "digest": index }, { "digest": index }] });
    fs::write(layout.join("index.json"), top.to_string()).expect("index");
    place.arg(name)
}

#[test]
fn layers_of_an_image_layout_are_added_if_they_are_what_it_says() {
    let place = Place::new();
    let cache = place.arg("cache");
    let bytes = fs::read(tar(&place, "one")).expect("tar");
    let diff_id = Digest::of(&bytes);
    let good = layout(&place, "good", &bytes, diff_id);
    assert_eq!(states(&["cache", "add", &cache, &good]), [("added".to_owned(), diff_id.to_string())]);
    assert_eq!(states(&["cache", "add", &cache, &good]), [("present".to_owned(), diff_id.to_string())]);

    let lying = layout(&place, "lying", &bytes, Digest::of(b"another layer"));
    let damaged = layout(&place, "damaged", &bytes, Digest::of(b"a third layer"));
    let file = place.path("damaged").join("blobs/sha256").join(diff_id.hex());
    fs::write(file, fs::read(tar(&place, "two")).expect("tar")).expect("damage");
    for (source, what) in [(&lying, "its diffID is"), (&damaged, "its digest is")] {
        let output = tool(&["cache", "add", &cache, source]);
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(DATA), "{said}");
        assert!(said.contains(what), "{said}");
    }
    assert_eq!(states(&["cache", "list", &cache]).len(), 1, "nothing of the others");
}

#[test]
fn a_mistake_is_told_from_damage() {
    let place = Place::new();
    let cache = place.arg("cache");
    for (arguments, code, words) in [
        (&["cache"][..], USAGE, "Usage"),
        (&["cache", "add", &cache], USAGE, "required"),
        (&["cache", "add", &cache, &place.arg("missing")], USAGE, "name the tar of a layer"),
        (&["cache", "add", &cache, env!("CARGO_BIN_EXE_nexuserofs")], DATA, "cannot make a layer of"),
    ] {
        let output = tool(arguments);
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
    assert_eq!(tool(&["cache", "list", &place.arg("missing")]).status.code(), Some(70));
    assert_eq!(fs::read_dir(place.path("cache")).expect("cache").count(), 0, "nothing half-made");
}

#[test]
fn every_verb_is_in_the_operators_reference() {
    let help = String::from_utf8(tool(&["cache", "--help"]).stdout).expect("UTF-8");
    let reference = include_str!("../../docs/operations.md");
    for verb in ["add", "export", "list", "verify"] {
        assert!(help.contains(verb), "{help}");
        assert!(reference.contains(&format!("nexuserofs cache {verb}")), "{verb}");
    }
}
