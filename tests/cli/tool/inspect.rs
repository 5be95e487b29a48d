//! `nexuserofs inspect`.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::process::Command;

use serde_json::{Value, json};

use super::super::daemon::Place;
use super::{DATA, USAGE, lines, refused, text, tool};

/// Four blocks of which the second and third are a hole.
const SPARSE: u64 = 4 * 4096;

/// A layer with one of each thing that is listed, built of a tar by GNU tar.
fn layer(place: &Place) -> String {
    let tree = place.path("tree");
    fs::create_dir_all(tree.join("a/b")).expect("directories");
    fs::write(tree.join("a/file"), vec![7; 5000]).expect("file");
    fs::hard_link(tree.join("a/file"), tree.join("a/other")).expect("link");
    symlink("a/file", tree.join("link")).expect("link");
    fs::write(tree.join("a/.wh.gone"), "").expect("whiteout");
    fs::write(tree.join("a/b/.wh..wh..opq"), "").expect("opaque mark");
    let sparse = File::create(tree.join("sparse")).expect("file");
    sparse.write_all_at(&[9; 4096], 0).expect("write");
    sparse.write_all_at(&[9; 4096], SPARSE - 4096).expect("write");
    let tar = place.arg("layer.tar");
    let made = Command::new("tar")
        .args([
            "--create",
            "--sparse",
            "--sort=name",
            "--mtime=@1",
            "--owner=5",
            "--group=6",
            "--numeric-owner",
        ])
        .args(["--file", &tar, "--directory"])
        .arg(&tree)
        .arg(".")
        .status();
    assert!(made.expect("tar").success());
    text(&lines(&["build", "--output", &place.arg("layers"), &tar])[0], "file")
}

fn inspect(arguments: &[&str]) -> Value {
    lines(&[&["inspect"], arguments].concat()).remove(0)
}

fn file<'v>(inspection: &'v Value, path: &str) -> &'v Value {
    let files = inspection["files"].as_array().expect("files");
    files.iter().find(|file| file["path"] == path).expect("path")
}

#[test]
fn an_image_is_told_with_what_takes_how_much() {
    let place = Place::new();
    let layer = layer(&place);
    let inspection = inspect(&[&layer]);
    let bytes = fs::metadata(&layer).expect("layer").len();
    assert_eq!((&inspection["kind"], &inspection["bytes"]), (&json!("erofs"), &json!(bytes)));
    let superblock = &inspection["superblock"];
    assert_eq!((&superblock["checksum"], &superblock["image_bytes"]), (&json!("right"), &json!(bytes)));
    assert_eq!(superblock["incompatible"], json!(["chunked_file"]));
    let usage = &inspection["usage"];
    for (key, expected) in [
        ("data_bytes", 4 * 4096),
        ("metadata_bytes", bytes - 4 * 4096),
        ("hole_bytes", 2 * 4096),
        ("directories", 3),
        ("regular_files", 2),
        ("symbolic_links", 1),
        ("hard_links", 1),
        ("whiteouts", 1),
        ("opaque_directories", 1),
        ("xattrs", 1),
    ] {
        assert_eq!(usage[key], expected, "{key}: {usage}");
    }
    assert_eq!(inspection.get("files"), None);
}

#[test]
fn files_are_listed_with_where_their_data_is() {
    let place = Place::new();
    let layer = layer(&place);
    let inspection = inspect(&["--files", &layer]);
    let paths: Vec<_> =
        inspection["files"].as_array().expect("files").iter().map(|file| text(file, "path")).collect();
    assert_eq!(paths, ["/", "/a", "/a/b", "/a/file", "/a/gone", "/a/other", "/link", "/sparse"]);
    let regular = file(&inspection, "/a/file");
    assert_eq!((&regular["uid"], &regular["gid"], &regular["mtime"]), (&json!(5), &json!(6), &json!(1)));
    assert_eq!(regular["inode"], file(&inspection, "/a/other")["inode"]);
    let first = regular["blocks"][0][0].as_u64().expect("block");
    let mut found = vec![0; 5000];
    File::open(&layer).expect("layer").read_exact_at(&mut found, first * 4096).expect("data");
    assert_eq!(found, vec![7; 5000]);
    assert_eq!(file(&inspection, "/sparse")["blocks"].as_array().expect("blocks").len(), 2);
    assert_eq!(file(&inspection, "/a/gone")["whiteout"], true);
    assert_eq!(file(&inspection, "/link")["target"], "a/file");
    assert_eq!(file(&inspection, "/a/b")["xattrs"], json!({ "trusted.overlay.opaque": "y" }));

    let said = String::from_utf8(tool(&["inspect", "--files", &layer]).stdout).expect("UTF-8");
    for words in ["EROFS image", "/a/gone (whiteout)", "/link -> a/file", "1970-01-01T00:00:01Z /sparse ["] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn what_is_damaged_or_something_else_is_told_so() {
    let place = Place::new();
    let layer = layer(&place);
    let damaged = place.arg("damaged");
    fs::copy(&layer, &damaged).expect("copy");
    let byte = File::options().write(true).open(&damaged).expect("layer");
    byte.write_all_at(&[0xff], 1024 + 48).expect("a byte of the UUID");
    let inspection = inspect(&[&damaged]);
    assert_eq!(
        (&inspection["superblock"]["checksum"], &inspection["usage"]),
        (&json!("wrong"), &Value::Null)
    );
    assert!(text(&inspection, "unread").contains("checksum"), "{inspection}");

    let output = tool(&["inspect", "--json", env!("CARGO_BIN_EXE_nexuserofs"), &layer]);
    assert_eq!(output.status.code(), Some(DATA));
    let both: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&both[0]["kind"], &both[1]["kind"]), (&json!("unknown"), &json!("erofs")));
    for name in ["nothing", "v1-ba7816bf8f01cfea414140de5dae2223", "c1-ba7816bf8f01cfea414140de5dae2223"] {
        refused(&["inspect", "--root", &place.arg("root"), name], USAGE, "is neither a file nor the key of");
    }
}

#[test]
fn a_vmdk_descriptor_is_told_by_its_extents() {
    let place = Place::new();
    let text = "# Disk DescriptorFile\nversion=1\n";
    let path = place.path("merged.vmdk");
    fs::write(&path, text).expect("file");
    assert_eq!(
        tool(&["inspect", path.to_str().expect("UTF-8")]).status.code(),
        Some(DATA),
        "not a whole one"
    );
    let descriptor = nexuserofs::image::vmdk::Descriptor::new(vec![nexuserofs::image::vmdk::Extent {
        path: nexuserofs::image::vmdk::ExtentPath::new(b"/layers/one.erofs").expect("path"),
        sectors: 8,
    }]);
    fs::write(&path, descriptor.expect("descriptor").to_string()).expect("file");
    let inspection = inspect(&[path.to_str().expect("UTF-8")]);
    assert_eq!((&inspection["kind"], &inspection["disk_bytes"]), (&json!("vmdk"), &json!(4096)));
    assert_eq!(inspection["extents"], json!([{ "file": "/layers/one.erofs", "bytes": 4096 }]));
}

#[test]
fn a_disk_of_layers_is_told_by_its_partitions() {
    let place = Place::new();
    let layer = layer(&place);
    let disk = place.arg("disk");
    let made = lines(&["device", "--output", &disk, "--layout", "partitions", "--flat", &layer]);
    let inspection = inspect(&[&text(&made[0], "file")]);
    assert_eq!(inspection["kind"], "gpt");
    let partition = &inspection["partitions"][0];
    let bytes = fs::metadata(&layer).expect("layer").len();
    assert_eq!(partition["number"], 1, "{inspection}");
    assert!(partition["bytes"].as_u64().expect("number") >= bytes, "{inspection}");
    let mut first = vec![0; 4096];
    let disk = File::open(text(&made[0], "file")).expect("disk");
    disk.read_exact_at(&mut first, partition["first_byte"].as_u64().expect("number")).expect("block");
    assert_eq!(first, fs::read(&layer).expect("layer")[..4096]);
}
