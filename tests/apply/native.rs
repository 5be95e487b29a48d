//! Layers that are EROFS images already.

use std::fs;
use std::path::PathBuf;

use nexuserofs::config::VerityMode;
use nexuserofs::error::Kind;
use nexuserofs::image::digest::Digest;
use nexuserofs::image::erofs::Writer;
use nexuserofs::image::tree::{
    BlockSink as _, Directory, Extent, FileData, Inode, InodeId, Metadata, Node, Tree,
};
use nexuserofs::layer::{Recipe, Verity};
use nexuserofs::snapshot::Profile;

use crate::refused::refused;
use crate::store::Fault;
use crate::{Bench, tar};

const EROFS: &str = "application/vnd.erofs.layer.v1";
const EROFS_ZSTD: &str = "application/vnd.erofs.layer.v1+zstd";
const OLD_EROFS: &str = "application/vnd.example.layer.erofs";
const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// An image with one file of three blocks, made as others make them: with a UUID of their own.
fn image(xattr: Option<(&str, &[u8])>) -> Vec<u8> {
    let mut image = Vec::new();
    let mut writer = Writer::new(&mut image);
    let first = writer.next_block();
    writer.append(&[7; 3 * 4096]).unwrap();
    let extents = vec![Extent { file_block: 0, image_block: first, blocks: 3 }];
    let file = Node::Regular(FileData { size: 3 * 4096, extents });
    let root = Node::Directory(Directory { entries: [(b"file".to_vec(), InodeId(1))].into() });
    let mut metadata = Metadata { mode: 0o755, ..Metadata::default() };
    let xattrs = xattr.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    metadata.xattrs = xattrs;
    let inode = |node| Inode { metadata: metadata.clone(), node };
    writer.finish(&Tree { inodes: vec![inode(root), inode(file)] }, *b"made by somebody").unwrap();
    image
}

fn layer_files(bench: &Bench) -> Vec<PathBuf> {
    bench.layers().iter().map(|layer| layer.join("layer.erofs")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_taken_over_as_it_is_whatever_its_type_is_called() {
    let image = image(None);
    let compressed = zstd::stream::encode_all(image.as_slice(), 3).unwrap();
    for (media_type, blob, expected) in
        [(EROFS, &image, EROFS), (EROFS_ZSTD, &compressed, EROFS), (OLD_EROFS, &image, OLD_EROFS)]
    {
        let bench = Bench::new().await;
        bench.store.put(blob, Fault::None);
        let applied = bench.apply_as(media_type, blob, &bench.extraction("layer", None)).await.unwrap();
        let described = (applied.media_type.as_str(), applied.digest, applied.size);
        assert_eq!(described, (expected, Digest::of(&image), image.len() as u64));
        bench.commit("layer");
        let files = layer_files(&bench);
        assert!(fs::read(&files[0]).unwrap() == image, "{media_type}");
        let key = format!("e1-{}", &Digest::of(&image).hex()[..32]);
        assert!(files[0].ends_with(format!("layers/{key}/layer.erofs")), "{}", files[0].display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_written_once_for_all_its_blobs() {
    let image = image(None);
    let compressed = zstd::stream::encode_all(image.as_slice(), 3).unwrap();
    let bench = Bench::new().await;
    bench.store.put(&image, Fault::None);
    bench.store.put(&compressed, Fault::None);
    bench.apply_as(EROFS, &image, &bench.extraction("raw", None)).await.unwrap();
    let announced = bench.extraction("zstd", Some(Digest::of(&image)));
    bench.apply_as(EROFS_ZSTD, &compressed, &announced).await.unwrap();
    let again = bench.extraction("again", None);
    assert_eq!(bench.apply_as(EROFS, &image, &again).await.unwrap().media_type, EROFS);
    let layer = bench.snapshots.layer_of_diff(&Digest::of(&image), &Recipe::Erofs).unwrap();
    assert_eq!(layer.content.blobs, [Digest::of(&image), Digest::of(&compressed)].into());
    assert_eq!(bench.layers().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_not_taken_for_what_it_was_under_another_type() {
    let image = image(None);
    let bench = Bench::new().await;
    bench.store.put(&image, Fault::None);
    bench.apply_as(EROFS, &image, &bench.extraction("image", None)).await.unwrap();
    bench.commit("image");
    let mounts = bench.extraction("tar", Some(Digest::of(&image)));
    // As a tar, 1024 zeros are an empty archive.
    bench.apply_as(TAR, &image, &mounts).await.unwrap();
    assert_eq!(bench.layers().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_is_filled_up_to_whole_blocks() {
    let mut image = image(None);
    let whole = image.len();
    image.extend_from_slice(b"a trailer");
    let bench = Bench::new().await;
    bench.store.put(&image, Fault::None);
    let applied = bench.apply_as(EROFS, &image, &bench.extraction("layer", None)).await.unwrap();
    assert_eq!((applied.digest, applied.size), (Digest::of(&image), image.len() as u64));
    bench.commit("layer");
    image.resize(whole + 4096, 0);
    assert!(fs::read(&layer_files(&bench)[0]).unwrap() == image);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hash_tree_follows_the_image_and_is_the_same_wherever_it_is_made() {
    let image = image(None);
    let compressed = zstd::stream::encode_all(image.as_slice(), 3).unwrap();
    let mut files = Vec::new();
    for (media_type, blob) in [(EROFS, &image), (EROFS_ZSTD, &compressed)] {
        let bench = Bench::with_profile(Profile { verity: VerityMode::Require, ..Profile::default() }).await;
        bench.store.put(blob, Fault::None);
        let applied = bench.apply_as(media_type, blob, &bench.extraction("layer", None)).await.unwrap();
        assert_eq!(applied.digest, Digest::of(&image), "the tree is no part of what was published");
        bench.commit("layer");
        files.push(fs::read(&layer_files(&bench)[0]).unwrap());
        let sidecar = fs::read_to_string(bench.layers()[0].join("layer.erofs.dmverity")).unwrap();
        let verity: Verity = serde_json::from_str(&sidecar).unwrap();
        assert_eq!(verity.image_size(), image.len() as u64);
        assert_eq!(verity.geometry().file_size(), files[0].len() as u64);
    }
    assert!(files[0] == files[1] && files[0].starts_with(&image));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_sound_image_is_refused_with_the_reason() {
    let whole = image(None);
    let mut unfinished = whole.clone();
    unfinished[1024..1028].fill(0);
    let mut flipped = whole.clone();
    flipped[1024 + 60] ^= 1;
    let cases = [
        (tar(1, 10_000), "no EROFS magic number"),
        (unfinished, "no EROFS magic number"),
        (flipped, "the EROFS superblock is damaged"),
        (whole[..whole.len() - 4096].to_vec(), "the file ends here, the image has"),
        (Vec::new(), "no EROFS magic number"),
        (image(Some(("trusted.overlay.redirect", b"/etc"))), "trusted.overlay.redirect"),
        (image(Some(("user.overlay.opaque", b"y"))), "user.overlay.opaque"),
    ];
    for (blob, words) in cases {
        let bench = Bench::new().await;
        bench.store.put(&blob, Fault::None);
        let mounts = bench.extraction("layer", None);
        let error = bench.apply_as(EROFS, &blob, &mounts).await.unwrap_err();
        refused(&bench, &error, Kind::InvalidArgument, words).await;
        bench.store.put(&whole, Fault::None);
        bench.apply_as(EROFS, &whole, &mounts).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_blob_is_told_from_a_bad_image() {
    let image = image(None);
    let bench = Bench::new().await;
    bench.store.put(&image, Fault::Damaged);
    let error = bench.apply_as(EROFS, &image, &bench.extraction("layer", None)).await.unwrap_err();
    refused(&bench, &error, Kind::DataLoss, "is damaged in the content store").await;
}
