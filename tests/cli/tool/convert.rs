//! `nexuserofs convert`.

use std::fs;
use std::path::Path;

use nexuserofs::image::digest::Digest;
use serde_json::{Value, json};

use super::super::daemon::Place;
use super::{DATA, USAGE, blob, layout, lines, refused, tar, text};

fn read(layout: &Path, digest: &Value) -> Vec<u8> {
    let digest: Digest = digest.as_str().expect("text").parse().expect("digest");
    let bytes = fs::read(layout.join("blobs/sha256").join(digest.hex())).expect("blob");
    assert_eq!(Digest::of(&bytes), digest);
    bytes
}

fn document(layout: &Path, descriptor: &Value) -> Value {
    let bytes = read(layout, &descriptor["digest"]);
    assert_eq!(descriptor["size"], bytes.len());
    serde_json::from_slice(&bytes).expect("JSON")
}

fn index(layout: &Path) -> Value {
    serde_json::from_slice(&fs::read(layout.join("index.json")).expect("index")).expect("JSON")
}

/// The manifest that the helper's layouts have below an index.
fn manifest(layout: &Path) -> Value {
    document(layout, &document(layout, &index(layout)["manifests"][0])["manifests"][0])
}

#[test]
fn layers_become_the_images_that_a_daemon_would_make() {
    let place = Place::new();
    let bytes = fs::read(tar(&place, "one")).expect("tar");
    let source = layout(&place, "source", &bytes, Digest::of(&bytes));
    lines(&["convert", &source, &place.arg("native")]);
    let native = place.path("native");
    let manifest = manifest(&native);
    let layer = &manifest["layers"][0];
    assert_eq!(layer["mediaType"], "application/vnd.erofs.layer.v1");
    let config = document(&native, &manifest["config"]);
    assert_eq!(config["rootfs"]["diff_ids"], json!([layer["digest"]]));
    assert_eq!(config["os.features"], json!(["erofs"]));
    let built = lines(&["build", "--output", &place.arg("built"), &source]);
    assert_eq!(read(&native, &layer["digest"]), fs::read(text(&built[0], "file")).expect("layer"));

    let with_tree = lines(&["build", "--verity", "--output", &place.arg("verity"), &source]);
    let annotation = layer["annotations"]["io.nexuserofs.verity"].as_str().expect("annotation");
    let parameters: Value = serde_json::from_str(annotation).expect("JSON");
    let root = format!("sha256:{}", text(&with_tree[0]["verity"], "roothash"));
    assert_eq!(parameters["root_digest"], root);
    assert_eq!(parameters["data_blocks"], with_tree[0]["verity"]["data_blocks"]);

    lines(&["convert", &source, &place.arg("again")]);
    assert_eq!(index(&place.path("again")), index(&native), "the same output again");
    lines(&["convert", &place.arg("native"), &place.arg("kept")]);
    assert_eq!(index(&place.path("kept")), index(&native), "what is native stays as it is");
}

#[test]
fn compressed_layers_have_the_digest_of_what_is_in_them() {
    let place = Place::new();
    let bytes = fs::read(tar(&place, "one")).expect("tar");
    let source = layout(&place, "source", &bytes, Digest::of(&bytes));
    lines(&["convert", &source, &place.arg("plain")]);
    lines(&["convert", "--zstd", &source, &place.arg("zstd")]);
    let (plain, packed) = (manifest(&place.path("plain")), manifest(&place.path("zstd")));
    assert_eq!(packed["layers"][0]["mediaType"], "application/vnd.erofs.layer.v1+zstd");
    let compressed = read(&place.path("zstd"), &packed["layers"][0]["digest"]);
    let unpacked = zstd::stream::decode_all(compressed.as_slice()).expect("zstd");
    let config = document(&place.path("zstd"), &packed["config"]);
    assert_eq!(config["rootfs"]["diff_ids"][0], json!(Digest::of(&unpacked)));
    assert_eq!(config["rootfs"]["diff_ids"][0], plain["layers"][0]["digest"]);
}

#[test]
fn what_is_no_image_is_left_out_and_nothing_else_is_lost() {
    let place = Place::new();
    let bytes = fs::read(tar(&place, "one")).expect("tar");
    let source = layout(&place, "source", &bytes, Digest::of(&bytes));
    let path = place.path("source");
    let list = blob(&path, b"{}");
    let layers = [json!({ "mediaType": "application/vnd.in-toto+json", "digest": list })];
    let statement =
        blob(&path, json!({ "config": { "digest": list }, "layers": layers }).to_string().as_bytes());
    let mut top = index(&path);
    let named = json!({ "org.opencontainers.image.ref.name": "latest" });
    top["manifests"] = json!([{ "digest": statement }, top["manifests"][0]]);
    top["manifests"][1]["annotations"] = named.clone();
    fs::write(path.join("index.json"), top.to_string()).expect("index");
    let converted = lines(&["convert", &source, &place.arg("native")]);
    let what: Vec<_> = converted.iter().map(|line| text(line, "what")).collect();
    assert_eq!(what, ["left_out", "layer", "image"]);
    let native = index(&place.path("native"));
    assert_eq!(native["manifests"].as_array().expect("manifests").len(), 1);
    assert_eq!(native["manifests"][0]["annotations"], named);
    lines(&["convert", "--image", "latest", &source, &place.arg("named")]);
    refused(&["convert", "--image", "other", &source, &place.arg("other")], USAGE, "it has: latest");
}

#[test]
fn an_output_that_is_there_is_replaced_only_when_asked_for() {
    let place = Place::new();
    let bytes = fs::read(tar(&place, "one")).expect("tar");
    let source = layout(&place, "source", &bytes, Digest::of(&bytes));
    let (output, file) = (place.arg("native"), place.path("native").join("file"));
    fs::create_dir(&output).expect("directory");
    fs::write(&file, "precious").expect("file");
    refused(&["convert", &source, &output], USAGE, "exists: take it away, or say --force");
    let lying = layout(&place, "lying", &bytes, Digest::of(b"another layer"));
    refused(&["convert", "--force", &lying, &output], DATA, "its diffID is");
    assert!(file.exists());
    lines(&["convert", "--force", &source, &output]);
    assert!(!file.exists());
    manifest(&place.path("native"));
    refused(
        &["convert", &tar(&place, "two"), &place.arg("x")],
        USAGE,
        "neither a directory in OCI image layout",
    );
    let names = fs::read_dir(place.path("")).expect("place").map(|entry| entry.expect("entry").file_name());
    let left: Vec<_> = names.filter(|name| name.to_string_lossy().ends_with(".tmp")).collect();
    assert!(left.is_empty(), "nothing half-made: {left:?}");
}
