//! Layers that mkfs.erofs makes of tars.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use nexuserofs::config::VerityMode;
use nexuserofs::diff::Applied;
use nexuserofs::error::{Classify as _, Kind};
use nexuserofs::image::digest::Digest;
use nexuserofs::image::erofs::Superblock;
use nexuserofs::image::tar::XATTR_OPAQUE;
use nexuserofs::image::tree::{Contents as _, InodeId, Node, Tree};
use nexuserofs::layer::mkfs::Program;
use nexuserofs::layer::mkfs::program::Unusable;
use nexuserofs::layer::open::{LayerImage, open_foreign};
use nexuserofs::layer::{LayerRecord, Recipe, Verity};
use nexuserofs::snapshot::Profile;

use crate::archive::{Entry, archive};
use crate::refused::refused;
use crate::skipped::skip;
use crate::store::Fault;
use crate::{Bench, DEADLINE, GZIP, PROFILE, gzip};

/// The program; None if there is none, which is said.
fn program(test: &str) -> Option<Program> {
    match Program::find() {
        Ok(program) => Some(program),
        Err(error @ Unusable::Missing(_)) => {
            skip(test, error);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn options(options: &[&str]) -> Vec<String> {
    options.iter().map(|option| (*option).to_owned()).collect()
}

async fn bench(recipe: Recipe, verity: VerityMode) -> Bench {
    let Bench { root, snapshots, differ, store } =
        Bench::with_profile(Profile { verity, ..Profile::default() }).await;
    Bench { root, snapshots, differ: differ.with_tar_recipe(recipe), store }
}

/// A layer with whiteouts, an opaque directory, links, attributes, holes and data that can be compressed.
fn entries() -> Vec<Entry> {
    vec![
        Entry::directory("./").mode(0o750).owner(1, 2),
        Entry::directory("etc/").mode(0o700).owner(3, 70_000),
        Entry::file("etc/config", "a=1\n".repeat(5000)).mtime(1_700_000_000),
        Entry::hard_link("etc/linked", "etc/config"),
        Entry::symlink("etc/link", "config"),
        Entry::file("etc/.wh.gone", ""),
        Entry::directory("opt/"),
        Entry::file("opt/.wh..wh..opq", ""),
        Entry::file("opt/tool", "#!/bin/sh\n").mode(0o4755),
        Entry::file("implicit/deep/file", [7; 10_000]),
        Entry::device(b'3', "null", 1, 3),
    ]
}

async fn apply(bench: &Bench, tar: &[u8]) -> Applied {
    let blob = gzip(tar);
    bench.store.put(&blob, Fault::None);
    bench.apply(&blob, &bench.extraction("layer", None)).await.unwrap()
}

fn layer_file(bench: &Bench) -> PathBuf {
    bench.layers()[0].join("layer.erofs")
}

fn find(image: &LayerImage, path: &str) -> InodeId {
    path.split('/').fold(Tree::ROOT, |id, name| match &image.tree().inode(id).node {
        Node::Directory(directory) => directory.entries[name.as_bytes()],
        other => panic!("{path}: {other:?}"),
    })
}

/// What everything that was asked of [`entries`] shows in the image.
fn assert_shows_entries(image: &LayerImage) {
    let inode = |path| image.tree().inode(find(image, path));
    assert_eq!(find(image, "etc/config"), find(image, "etc/linked"));
    let metadata = &inode("etc/config").metadata;
    assert_eq!((metadata.mode, metadata.mtime.seconds), (0o644, 1_700_000_000));
    assert_eq!(inode("etc/link").node, Node::Symlink(b"config".to_vec()));
    assert!(matches!(inode("etc/gone").node, Node::CharacterDevice(device) if device == Default::default()));
    assert_eq!(inode("opt").metadata.xattrs.get(XATTR_OPAQUE).map(Vec::as_slice), Some(&b"y"[..]));
    assert_eq!(inode("opt/tool").metadata.mode, 0o4755);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_is_compressed_and_the_same_at_each_try() {
    let Some(program) = program("a_layer_is_compressed_and_the_same_at_each_try") else { return };
    let tar = archive(&entries());
    let mut files = Vec::new();
    for _ in 0..2 {
        let bench = bench(program.recipe(&options(&["-zlz4"])), VerityMode::Auto).await;
        let applied = apply(&bench, &tar).await;
        assert_eq!((applied.digest, applied.size), (Digest::of(&tar), tar.len() as u64));
        bench.commit("layer");
        let path = layer_file(&bench);
        assert!(path.to_str().unwrap().contains("/layers/m1-"), "{}", path.display());
        let image = open_foreign(&path).unwrap();
        assert!(image.is_compressed());
        assert_shows_entries(&image);
        let root = path.with_file_name("layer.json");
        let record: LayerRecord = serde_json::from_slice(&fs::read(root).unwrap()).unwrap();
        assert_eq!(record.root.map(|root| (root.mode, root.uid, root.gid)), Some((0o750, 1, 2)));
        let verity: Verity =
            serde_json::from_slice(&fs::read(path.with_file_name("layer.erofs.dmverity")).unwrap()).unwrap();
        assert_eq!(verity.image_size(), image.superblock().image_size());
        assert_eq!(bench.names_in("staging").len(), 0);
        files.push(fs::read(path).unwrap());
    }
    assert!(files[0] == files[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tar_is_kept_behind_its_index() {
    let Some(program) = program("a_tar_is_kept_behind_its_index") else { return };
    let mut tar = archive(&entries());
    tar.extend_from_slice(b"what follows the end of an archive is a part of the blob");
    let bench = bench(program.index_recipe(&[]), VerityMode::Auto).await;
    assert_eq!(apply(&bench, &tar).await.digest, Digest::of(&tar));
    bench.commit("layer");
    let path = layer_file(&bench);
    let file = fs::read(&path).unwrap();
    assert!(file.len().is_multiple_of(4096));
    let image = open_foreign(&path).unwrap();
    assert_eq!(image.superblock().block_size(), 512);
    let index = image.superblock().image_size() as usize;
    assert!(file[index..].starts_with(&tar));
    assert_shows_entries(&image);
    let mut content = Vec::new();
    image.open(find(&image, "etc/config")).unwrap().read_to_end(&mut content).unwrap();
    assert!(content == "a=1\n".repeat(5000).as_bytes());
    assert!(!path.with_file_name("layer.erofs.dmverity").exists(), "a tree has larger blocks");
    assert!(!path.with_file_name("layer.tar").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn smaller_blocks_are_made_and_larger_ones_refused() {
    let Some(program) = program("smaller_blocks_are_made_and_larger_ones_refused") else { return };
    let tar = archive(&entries());
    let small = bench(program.recipe(&options(&["-b1024"])), VerityMode::Off).await;
    apply(&small, &tar).await;
    small.commit("layer");
    let image = open_foreign(&layer_file(&small)).unwrap();
    assert_eq!(image.superblock().block_size(), 1024);
    let mut content = Vec::new();
    image.open(find(&image, "implicit/deep/file")).unwrap().read_to_end(&mut content).unwrap();
    assert_eq!(content, [7; 10_000]);
    // A second pull would give the same blocks.
    let strict = bench(program.recipe(&options(&["-b1024"])), VerityMode::Require).await;
    apply(&strict, &tar).await;
    strict.commit("layer");
    let refusal =
        strict.snapshots.view(PROFILE, "view", Some("committed layer"), BTreeMap::new()).unwrap_err();
    let text = refusal.to_string();
    assert!(text.contains("blocks of 1024 bytes") && !text.contains("pull again"), "{text}");
    assert_eq!(refusal.kind(), Kind::FailedPrecondition);
    // A machine with larger pages could mount it, others could not.
    let large = bench(program.recipe(&options(&["-b16384"])), VerityMode::Off).await;
    let blob = gzip(&tar);
    large.store.put(&blob, Fault::None);
    let error = large.apply(&blob, &large.extraction("layer", None)).await.unwrap_err();
    refused(&large, &error, Kind::FailedPrecondition, "16384").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_mkfs_says_is_the_reason() {
    let Some(program) = program("what_mkfs_says_is_the_reason") else { return };
    let blob = gzip(&archive(&entries()));
    for recipe in [program.recipe(&options(&["-znonsense"])), program.index_recipe(&options(&["-znonsense"]))]
    {
        let bench = bench(recipe, VerityMode::Off).await;
        bench.store.put(&blob, Fault::None);
        let error = bench.apply(&blob, &bench.extraction("layer", None)).await.unwrap_err();
        refused(&bench, &error, Kind::FailedPrecondition, "nonsense").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_our_reader_refuses_is_no_layer_whoever_makes_it() {
    let Some(program) = program("what_our_reader_refuses_is_no_layer_whoever_makes_it") else { return };
    let whole = archive(&entries());
    let redirect = Entry::directory("d/").pax("SCHILY.xattr.trusted.overlay.redirect", "/etc");
    for (tar, words) in [
        (archive(&[Entry::file("a/.wh..", "")]), "cannot make a layer of the tar"),
        (whole[..whole.len() / 2].to_vec(), "cut short"),
        (archive(&[redirect]), "trusted.overlay.redirect"),
    ] {
        let blob = gzip(&tar);
        let bench = bench(program.recipe(&options(&["-zlz4"])), VerityMode::Off).await;
        bench.store.put(&blob, Fault::None);
        let error = bench.apply(&blob, &bench.extraction("layer", None)).await.unwrap_err();
        refused(&bench, &error, Kind::InvalidArgument, words).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_of_two_builders_lie_beside_each_other() {
    let Some(program) = program("layers_of_two_builders_lie_beside_each_other") else { return };
    let tar = archive(&entries());
    let bench = bench(program.recipe(&options(&["-zlz4"])), VerityMode::Off).await;
    apply(&bench, &tar).await;
    bench.commit("layer");
    let native = bench.differ.clone().with_tar_recipe(Recipe::Native);
    let request = bench.request(GZIP, &gzip(&tar), &bench.extraction("native", Some(Digest::of(&tar))));
    native.apply(request).await.unwrap();
    bench.commit("native");
    assert_eq!(bench.layers().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_dropped_ends_the_program() {
    let Some(program) = program("a_request_that_is_dropped_ends_the_program") else { return };
    let blob = gzip(&crate::tar(1, 8 << 20));
    let bench = bench(program.recipe(&options(&["-zlz4"])), VerityMode::Off).await;
    bench.store.put(&blob, Fault::StallsAfter(1 << 20));
    let mounts = bench.extraction("layer", None);
    let apply = bench.differ.apply(bench.request(GZIP, &blob, &mounts));
    tokio::time::timeout(Duration::from_millis(500), apply).await.unwrap_err();
    bench.settled().await;
    assert!(bench.layers().is_empty());
    // Those of other tests come and go; one that was not collected stays.
    let collected = async {
        while !zombies().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, collected).await.unwrap();
}

/// Processes that this one started, and that ended without being collected.
fn zombies() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let children = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    let pids = children.flat_map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    let is_zombie = |pid: &String| {
        fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
    };
    pids.filter(is_zombie).collect()
}

#[test]
fn superblocks_keep_all_but_the_uuid() {
    let mut block = [0; 4096];
    assert!(Superblock::replace_uuid(&mut block, [1; 16]).is_err());
    assert_eq!(block, [0; 4096], "nothing is written over what is no image");
}
