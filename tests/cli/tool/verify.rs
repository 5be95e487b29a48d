//! `nexuserofs verify`.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::super::daemon::Place;
use super::{DATA, UNPROVEN, USAGE, lines, refused, text, tool};

/// A layer with a dm-verity tree and two files, `/one` of 200 blocks and `/two` of 100.
fn layer(place: &Place) -> PathBuf {
    let (tree, tar) = (place.path("tree"), place.arg("layer.tar"));
    fs::create_dir(&tree).expect("directory");
    for (name, byte, blocks) in [("one", 1, 200), ("two", 2, 100)] {
        fs::write(tree.join(name), vec![byte; blocks * 4096]).expect("file");
    }
    let made = Command::new("tar")
        .args(["--create", "--sort=name", "--file", &tar, "--directory"])
        .arg(&tree)
        .arg(".")
        .status();
    assert!(made.expect("tar").success());
    let built = lines(&["build", "--verity", "--output", &place.arg("layers"), &tar]);
    assert_eq!(built[0]["verity"]["hash_algorithm"], "sha256");
    PathBuf::from(text(&built[0], "file"))
}

/// What the tool says about a file, with its exit code.
fn verify(file: &Path) -> (i32, Value) {
    let output = tool(&["verify", "--json", file.to_str().expect("UTF-8")]);
    let lines: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    (output.status.code().expect("code"), lines[0].clone())
}

/// A copy of a layer with its sidecar in which one byte is another.
fn damaged(place: &Place, layer: &Path, offset: u64) -> PathBuf {
    let copy = place.path(&format!("damaged-{offset}"));
    fs::copy(layer, &copy).expect("copy");
    let sidecar = |path: &Path| PathBuf::from(format!("{}.dmverity", path.display()));
    fs::copy(sidecar(layer), sidecar(&copy)).expect("copy");
    let file = File::options().read(true).write(true).open(&copy).expect("layer");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("byte");
    file.write_all_at(&[byte[0] ^ 1], offset).expect("byte");
    copy
}

#[test]
fn a_bad_block_is_told_with_the_file_that_it_belongs_to() {
    let place = Place::new();
    let layer = layer(&place);
    let (code, line) = verify(&layer);
    assert_eq!((code, &line["state"], &line["origin"]), (0, &json!("proven"), &json!("sidecar")));

    let name = layer.to_str().expect("UTF-8");
    let files = lines(&["inspect", "--files", name])[0]["files"].clone();
    let first = |path: &str| {
        let file = files.as_array().expect("files").iter().find(|file| file["path"] == path).expect("file");
        file["blocks"][0][0].as_u64().expect("block") * 4096
    };
    for path in ["/one", "/two"] {
        let offset = first(path) + 5 * 4096;
        let (code, line) = verify(&damaged(&place, &layer, offset + 77));
        assert_eq!((code, &line["state"]), (DATA, &json!("damaged")));
        let bad = &line["damage"][0];
        assert_eq!(
            (&bad["what"], &bad["offset"], &bad["bytes"]),
            (&json!("data"), &json!(offset), &json!(4096))
        );
        assert_eq!((&bad["data_of"], &bad["metadata_of"]), (&json!([path]), &json!([])));
        assert_eq!(line["damage"].as_array().expect("damage").len(), 1);
    }
}

#[test]
fn damage_to_metadata_superblock_and_tree_is_told_apart() {
    let place = Place::new();
    let layer = layer(&place);
    let inspection = lines(&["inspect", layer.to_str().expect("UTF-8")]).remove(0);
    let block = |key: &str| inspection["superblock"][key].as_u64().expect("number") * 4096;
    let hash_offset = inspection["verity"]["superblock"]["hashoffset"].as_u64().expect("number");
    // The time of the root directory, which is the first inode.
    let (_, line) = verify(&damaged(&place, &layer, block("meta_block") + 32 + 32));
    let owners = line["damage"][0]["metadata_of"].as_array().expect("paths");
    assert!(owners.contains(&json!("/")), "{line}");
    let (_, line) = verify(&damaged(&place, &layer, 1024 + 50));
    assert_eq!((&line["damage"][0]["offset"], &line["damage"][0]["what"]), (&json!(0), &json!("data")));
    assert!(text(&line, "note").contains("which files these are of cannot be told"), "{line}");
    let (_, line) = verify(&damaged(&place, &layer, hash_offset));
    assert_eq!(line["damage"][0]["what"], "verity_superblock");
    let (code, line) = verify(&damaged(&place, &layer, hash_offset + 4096));
    assert_eq!((code, &line["damage"][0]["what"]), (DATA, &json!("tree")));
    assert_eq!(line["damage"][0]["offset"], hash_offset + 4096);
    let cut = damaged(&place, &layer, 5);
    File::options().write(true).open(&cut).expect("layer").set_len(hash_offset).expect("cut");
    let (code, line) = verify(&cut);
    assert_eq!((code, &line["damage"][0]["what"]), (DATA, &json!("cut_off")), "{line}");
}

#[test]
fn without_a_root_hash_nothing_is_proven_and_a_wrong_one_proves_nothing() {
    let place = Place::new();
    let layer = layer(&place);
    let name = layer.to_str().expect("UTF-8");
    let sidecar: Value =
        serde_json::from_slice(&fs::read(format!("{name}.dmverity")).expect("file")).expect("JSON");
    fs::remove_file(format!("{name}.dmverity")).expect("file");
    let (code, line) = verify(&layer);
    assert_eq!((code, &line["state"], &line["root_hash"]), (UNPROVEN, &json!("unproven"), &Value::Null));
    let root = text(&sidecar, "roothash");
    let proven = lines(&["verify", "--root-hash", &root, name]);
    assert_eq!((&proven[0]["state"], &proven[0]["origin"]), (&json!("proven"), &json!("argument")));
    let other = format!("{}{}", if root.starts_with('0') { "1" } else { "0" }, &root[1..]);
    let output = tool(&["verify", "--json", "--root-hash", &other, name]);
    assert_eq!(output.status.code(), Some(DATA));
    refused(&["verify", "--root-hash", &root, name, &place.arg("layer.tar")], USAGE, "name one at a time");
    refused(&["verify", "--root-hash", "abc", name], USAGE, "is not a digest");
    assert_eq!(tool(&["verify", "--quiet", &place.arg("layer.tar")]).status.code(), Some(DATA));
}
