//! The operator's tool: the real program on real files.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nexuserofs::image::digest::Digest;
use serde_json::{Value, json};

use super::daemon::Place;

mod build;
mod cache;
mod convert;
mod device;
mod doctor;
mod inspect;
mod manifest;
mod mount;
mod verify;

pub(crate) const USAGE: i32 = 64;
pub(crate) const DATA: i32 = 65;
pub(crate) const UNPROVEN: i32 = 69;

pub(crate) fn tool(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nexuserofs"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("program")
}

/// Runs the tool with `--json`, which must succeed, and returns what it printed.
pub(crate) fn lines(arguments: &[&str]) -> Vec<Value> {
    let output = tool(&[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Runs the tool, which must end with this code and these words on standard error.
pub(crate) fn refused(arguments: &[&str], code: i32, words: &str) {
    let output = tool(arguments);
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(said.contains(words), "{arguments:?}: {said}");
}

pub(crate) fn text(line: &Value, key: &str) -> String {
    line[key].as_str().expect("text").to_owned()
}

/// A tar with one file that is named like it, made by GNU tar.
pub(crate) fn tar(place: &Place, name: &str) -> String {
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

/// Puts a blob into an OCI image layout and returns its digest.
pub(crate) fn blob(layout: &Path, bytes: &[u8]) -> Digest {
    let digest = Digest::of(bytes);
    fs::write(layout.join("blobs/sha256").join(digest.hex()), bytes).expect("blob");
    digest
}

/// An OCI image layout with an index, as tools for several machines write it, of one image with one layer,
/// whose configuration names `diff_id`.
pub(crate) fn layout(place: &Place, name: &str, tar: &[u8], diff_id: Digest) -> String {
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
    fs::write(layout.join("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string())
        .expect("marker");
    place.arg(name)
}

#[test]
fn every_verb_is_in_the_tools_reference() {
    let help = String::from_utf8(tool(&["--help"]).stdout).expect("UTF-8");
    let reference = include_str!("../../../docs/tool.md");
    for verb in ["build", "inspect", "verify", "convert", "mount", "umount", "device", "doctor", "cache"] {
        assert!(help.contains(&format!("\n  {verb} ")), "{verb}: {help}");
        let is_told =
            reference.contains(&format!("`{verb}`")) && reference.contains(&format!("nexuserofs {verb}"));
        assert!(is_told || ["cache", "device"].contains(&verb), "{verb}");
        let said = tool(&[verb, "--help"]);
        assert!(said.status.success(), "{verb}");
    }
}
