//! The program `nexuserofs-guest` as far as it needs no privilege: what it refuses, with which exit code and words.

// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Signed by a key of 32 bytes 1, version 7, until the end of the year 9999.
const SIGNED: &str = include_str!("../src/manifest/golden/signed.json");
const IMAGE_HASH: &str = include_str!("../src/manifest/golden/image_hash");
/// The public key, in base64url.
const KEY: &str = "iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w";

/// A directory with what the program is given: an empty command line and a sysfs without devices.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(place.path().join("sys/class/block")).unwrap();
        place.file("command_line", "quiet");
        place.file("manifest", SIGNED);
        place
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_nexuserofs-guest"))
            .args(["--timeout", "0", "--command-line"])
            .arg(self.path().join("command_line"))
            .arg("--sysfs")
            .arg(self.path().join("sys"))
            .args(arguments)
            .output()
            .unwrap()
    }

    fn prints(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn fails(&self, arguments: &[&str], code: i32, reason: &str) {
        let output = self.run(arguments);
        let said: Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!((output.status.code(), said["reason"].as_str()), (Some(code), Some(reason)), "{said}");
        assert_eq!(said["exit_code"], code);
        assert!(output.stdout.is_empty());
    }
}

fn descriptor() -> String {
    let layers = json!([{ "device": { "serial": "l0" } }, { "device": { "serial": "l1" } }]);
    let assembly = json!({ "layers": layers, "upper": "none" });
    format!(r#"{{"signed":{},"assembly":{assembly}}}"#, SIGNED.trim())
}

#[test]
fn a_manifest_is_held_against_a_policy() {
    let place = Place::new();
    let manifest = place.path().join("manifest").display().to_string();
    let exact = place.file("exact", json!({ "rule": { "exact": [IMAGE_HASH.trim()] } }).to_string());
    let key = place.file("key", json!({ "rule": { "key": { "keys": [KEY] } } }).to_string());
    for policy in [&exact, &key] {
        let printed = place.prints(&["verify", "--manifest", &manifest, "--policy", policy]);
        assert_eq!(printed["image_hash"], IMAGE_HASH.trim());
    }
    let newer = json!({ "rule": { "key": { "keys": [KEY], "minimum_version": 8 } } }).to_string();
    let newer = place.file("newer", newer);
    place.fails(&["verify", "--manifest", &manifest, "--policy", &newer], 3, "version_too_old");
    let damaged = place.file("damaged", SIGNED.replace("\"version\":7", "\"version\":8"));
    place.fails(&["verify", "--manifest", &damaged, "--policy", &key], 3, "signature_wrong");
    let spaced = place.file("spaced", SIGNED.replace("\"version\":7", "\"version\": 7"));
    place.fails(&["verify", "--manifest", &spaced, "--policy", &key], 3, "manifest_damaged");
}

#[test]
fn without_a_policy_nothing_is_allowed() {
    let place = Place::new();
    let descriptor = place.file("descriptor", descriptor());
    place.fails(&["verify", "--descriptor", &descriptor], 3, "policy_missing");
    place.file("command_line", format!("nexuserofs.key={KEY}"));
    place.prints(&["verify", "--descriptor", &descriptor]);
    place.file("command_line", format!("nexuserofs.key={KEY} nexuserofs.key={KEY}"));
    place.fails(&["verify", "--descriptor", &descriptor], 3, "command_line_damaged");
}

#[test]
fn what_is_allowed_and_has_no_device_is_another_error() {
    let place = Place::new();
    let descriptor = place.file("descriptor", descriptor());
    place.file("command_line", format!("nexuserofs.image_hash={}", IMAGE_HASH.trim()));
    place.fails(&["plan", "--descriptor", &descriptor], 4, "device_missing");
    assert_eq!(place.prints(&["inspect"]), json!([]));
}

#[test]
fn a_description_comes_on_the_command_line_too() {
    use base64::Engine as _;
    let place = Place::new();
    let encoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(descriptor());
    let policy = format!("nexuserofs.image_hash={}", IMAGE_HASH.trim());
    place.file("command_line", format!("{policy} nexuserofs.descriptor=base64:{encoded}"));
    place.prints(&["verify"]);
    place.file("command_line", format!("{policy} nexuserofs.descriptor=base64:{encoded}="));
    place.fails(&["verify"], 3, "descriptor_damaged");
    place.file("command_line", format!("{policy} nexuserofs.descriptor=block:serial:none"));
    place.fails(&["verify"], 4, "device_missing");
}

#[test]
fn wrong_flags_are_usage() {
    let place = Place::new();
    for arguments in [&["fetch"][..], &["mount"], &["verify", "--force"], &["plan"]] {
        place.fails(arguments, 2, "usage");
    }
    assert!(String::from_utf8(place.run(&["--help"]).stdout).unwrap().contains("exit codes"));
}

#[test]
fn undoing_what_is_not_there_is_done() {
    let place = Place::new();
    let run = place.path().join("run").display().to_string();
    for _ in 0..2 {
        assert!(place.run(&["umount", "--run", &run]).status.success());
    }
}
