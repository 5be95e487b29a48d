//! Layers that become one image: when, for how long, and what cannot.

use std::collections::BTreeSet;
use std::fs;

use super::host::{DIR, Host, Layer, MERGED, extraction_labels, kind, names_in, settings};
use crate::error::Kind;
use crate::expose::device;
use crate::expose::mount::Mount;
use crate::image::digest::Digest;
use crate::image::erofs::{self, Superblock, Writer};
use crate::image::tree::{Directory, Inode, InodeId, Metadata, Node, Tree};
use crate::layer::chain::{ChainRecord, Outcome};
use crate::snapshot::{Labels, Missing, Snapshotter};

/// A layer with one file of this name.
fn layer(name: &str) -> Layer {
    let inode = |node| Inode { metadata: Metadata { mode: 0o755, ..Metadata::default() }, node };
    let entries = [(name.as_bytes().to_vec(), InodeId(1))].into();
    let tree = Tree { inodes: vec![inode(Node::Directory(Directory { entries })), inode(Node::Fifo)] };
    let mut image = Vec::new();
    Writer::new(&mut image).finish(&tree, erofs::uuid(&Digest::of(name.as_bytes()))).unwrap();
    Layer { image, ..Layer::new(name) }
}

/// An image of two layers in the profile that merges them.
fn two_layers(top: &Layer) -> Host {
    let host = Host::new();
    host.commit_layer(MERGED, "a", None, &layer("a"));
    host.commit_layer(MERGED, "b", Some("a"), top);
    host
}

fn prepare(host: &Host, key: &str) -> Vec<Mount> {
    host.snapshotter.prepare(MERGED, key, Some("b"), Labels::new()).unwrap()
}

/// The image that a plan starts with, and its devices.
fn merged_in(host: &Host, plan: &[Mount]) -> Option<(String, Vec<String>)> {
    let relative =
        |path: &str| path.strip_prefix(&format!("{}/", host.root.path().display())).unwrap().to_owned();
    let devices = plan[0].options.iter().filter_map(|option| option.strip_prefix("device="));
    let devices: Vec<_> = devices.map(relative).collect();
    (!devices.is_empty()).then(|| (relative(&plan[0].source), devices))
}

fn chains(host: &Host) -> BTreeSet<String> {
    host.snapshotter.cleanup().unwrap();
    names_in(&host.path("chains"))
}

#[test]
fn a_plan_names_one_image_with_the_layers_as_devices() {
    let host = two_layers(&layer("b"));
    assert!(chains(&host).is_empty(), "nobody needed one yet");
    let plan = prepare(&host, "active");
    let (image, devices) = merged_in(&host, &plan).unwrap();
    assert_eq!(devices, ["a", "b"].map(|name| format!("layers/{}/layer.erofs", layer(name).key())));
    let superblock = Superblock::parse(&fs::read(host.path(&image)).unwrap()).unwrap();
    assert_eq!((superblock.devices, superblock.inodes), (2, 3));
    assert_eq!(
        names_in(host.path(&image).parent().unwrap()),
        ["chain.json", "fsmeta.erofs", "layers.manifest", "merged.vmdk"].map(str::to_owned).into()
    );
    let disk = device::check(&host.path(&image).with_file_name("merged.vmdk")).unwrap();
    let on_disk: Vec<_> = disk.extents().iter().map(|extent| extent.path.as_str().to_owned()).collect();
    let absolute = |path: &String| host.path(path).display().to_string();
    assert_eq!(on_disk, [&image].into_iter().chain(&devices).map(absolute).collect::<Vec<_>>());
    assert_eq!(merged_in(&host, &prepare(&host, "other")), Some((image.clone(), devices)));
    let view = host.snapshotter.view(MERGED, "view", Some("b"), Labels::new()).unwrap();
    assert_eq!(merged_in(&host, &view).unwrap().0, image);
    assert_eq!(view[1].fstype, "format/bind");
    host.assert_consistent();
    let host = host.restart();
    assert!(host.report.missing.is_empty() && host.report.swept.is_empty(), "{:?}", host.report);
    assert_eq!(host.snapshotter.mounts(MERGED, "active").unwrap(), plan);
}

#[test]
fn a_chain_of_layers_with_trees_is_described_as_one_verified_disk() {
    let host = Host::new();
    host.commit_layer(MERGED, "a", None, &layer("a").hashed());
    host.commit_layer(MERGED, "b", Some("a"), &layer("b").hashed());
    let (image, devices) = merged_in(&host, &prepare(&host, "active")).unwrap();
    let home = host.path(&image).parent().unwrap().to_owned();
    let disk = device::check(&home.join("verified.vmdk")).unwrap();
    let on_disk: Vec<_> = disk.extents().iter().map(|extent| extent.path.as_str().to_owned()).collect();
    let tree = home.join("merged.verity").display().to_string();
    let layers = devices.iter().map(|path| host.path(path).display().to_string());
    let expected = [host.path(&image).display().to_string()].into_iter().chain(layers).chain([tree]);
    assert_eq!(on_disk, expected.collect::<Vec<_>>());
    let record = fs::read(home.join("chain.json")).unwrap();
    let record: ChainRecord = serde_json::from_slice(&record).unwrap();
    let Outcome::Merged { verity: Some(verity), .. } = record.outcome else { panic!("no tree") };
    assert_eq!(disk.sectors() * 512, verity.geometry().file_size());
}

#[test]
fn one_layer_an_extraction_and_other_profiles_have_their_layers_as_they_are() {
    let host = two_layers(&layer("b"));
    host.commit_layer(DIR, "a", None, &layer("a"));
    host.commit_layer(DIR, "b", Some("a"), &layer("b"));
    let plans = [
        host.snapshotter.prepare(MERGED, "one", Some("a"), Labels::new()).unwrap(),
        host.snapshotter.prepare(MERGED, "more", Some("b"), extraction_labels("c")).unwrap(),
        host.snapshotter.prepare(DIR, "active", Some("b"), Labels::new()).unwrap(),
    ];
    assert!(plans.iter().all(|plan| merged_in(&host, plan).is_none()), "{plans:?}");
    assert!(chains(&host).is_empty());
}

#[test]
fn a_chain_goes_with_its_layers() {
    let host = two_layers(&layer("b"));
    prepare(&host, "active");
    host.snapshotter.remove(MERGED, "active").unwrap();
    assert_eq!(chains(&host).len(), 1, "the next container needs it again");
    host.snapshotter.remove(MERGED, "b").unwrap();
    assert!(chains(&host).is_empty());
    host.assert_consistent();
}

#[test]
fn a_chain_of_a_running_container_stays_when_its_image_goes() {
    let host = two_layers(&layer("b"));
    // On the same layers, but nothing there stands on them.
    host.commit_layer(DIR, "a", None, &layer("a"));
    prepare(&host, "active");
    host.snapshotter.remove(DIR, "a").unwrap();
    assert_eq!(kind(host.snapshotter.remove(MERGED, "b")), Kind::FailedPrecondition);
    assert_eq!(chains(&host).len(), 1);
}

/// A layer of the same size that cannot be merged.
fn unmergeable(name: &str) -> Layer {
    let mut other = layer(name);
    // The feature of compressed data, and the checksum again.
    other.image[1024 + 80] |= 2;
    other.image[1028..1032].fill(0);
    let checksum = !crc32c::crc32c(&other.image[1024..4096]);
    other.image[1028..1032].copy_from_slice(&checksum.to_le_bytes());
    other
}

#[test]
fn layers_that_cannot_be_merged_are_mounted_one_by_one_for_good() {
    let other = unmergeable("b");
    let host = two_layers(&other);
    let plan = prepare(&host, "active");
    assert!(merged_in(&host, &plan).is_none());
    assert_eq!(plan.len(), 3);
    let [chain] = &chains(&host).into_iter().collect::<Vec<_>>()[..] else { panic!("no record") };
    let record = fs::read_to_string(host.path(&format!("chains/{chain}/chain.json"))).unwrap();
    assert!(record.contains("unmergeable") && record.contains("features 0x2"), "{record}");
    let host = host.restarted(|root| {
        // Read again it would be mergeable.
        fs::write(root.join("layers").join(other.key()).join("layer.erofs"), layer("b").image).unwrap();
    });
    assert!(merged_in(&host, &prepare(&host, "again")).is_none());
}

#[test]
fn a_damaged_layer_is_no_reason_to_give_up_for_good() {
    let mut damaged = layer("b");
    damaged.image[1024 + 50] ^= 1;
    let host = two_layers(&damaged);
    let refused = host.snapshotter.prepare(MERGED, "active", Some("b"), Labels::new());
    assert_eq!(kind(refused), Kind::DataLoss);
    assert!(chains(&host).is_empty());
    fs::write(host.path(&format!("layers/{}/layer.erofs", damaged.key())), layer("b").image).unwrap();
    assert!(merged_in(&host, &prepare(&host, "active")).is_some());
}

#[test]
fn a_chain_that_is_lost_is_made_again_as_it_was() {
    let host = two_layers(&layer("b"));
    let (image, _) = merged_in(&host, &prepare(&host, "active")).unwrap();
    let before = fs::read(host.path(&image)).unwrap();
    let host = host.restarted(|root| fs::remove_dir_all(root.join("chains")).unwrap());
    assert!(host.report.missing.is_empty(), "{:?}", host.report);
    assert_eq!(fs::read(host.path(&image)).unwrap(), before);
    let host = host.restarted(|root| fs::write(root.join(&image), "cut short").unwrap());
    assert_eq!(fs::read(host.path(&image)).unwrap(), before);
    let host = host.restarted(|root| {
        fs::remove_dir_all(root.join("chains")).unwrap();
        fs::remove_dir_all(root.join("layers").join(layer("a").key())).unwrap();
    });
    assert!(
        host.report.missing.iter().any(|missing| matches!(missing, Missing::Chain { .. })),
        "{:?}",
        host.report
    );
}

#[test]
fn a_lost_chain_that_cannot_be_made_again_is_told_at_each_start() {
    let host = two_layers(&layer("b"));
    prepare(&host, "active");
    let host = host.restarted(|root| {
        fs::remove_dir_all(root.join("chains")).unwrap();
        let changed = unmergeable("b");
        fs::write(root.join("layers").join(changed.key()).join("layer.erofs"), changed.image).unwrap();
    });
    let told = |host: &Host| matches!(&host.report.missing[..], [Missing::Chain { reason, .. }] if reason.contains("features"));
    assert!(told(&host), "{:?}", host.report);
    let host = host.restart();
    assert!(told(&host), "{:?}", host.report);
}

#[test]
fn what_is_no_chain_and_one_without_its_layers_are_swept() {
    let host = two_layers(&layer("b"));
    prepare(&host, "active");
    let host = host.restarted(|root| {
        fs::create_dir(root.join("chains/c1-00000000000000000000000000000000")).unwrap();
        fs::create_dir(root.join("chains/other")).unwrap();
    });
    assert_eq!(host.report.swept.len(), 2, "{:?}", host.report);
    assert_eq!(chains(&host).len(), 1);
}

#[test]
fn under_a_long_path_layers_are_mounted_one_by_one() {
    let root = tempfile::tempdir().unwrap();
    let long = root.path().join("r".repeat(120)).join("s".repeat(120));
    let (snapshotter, _) = Snapshotter::open(settings(&long)).unwrap();
    let mut host = Host::new();
    host.snapshotter = snapshotter;
    host.commit_layer(MERGED, "a", None, &layer("a"));
    host.commit_layer(MERGED, "b", Some("a"), &layer("b"));
    let plan = prepare(&host, "active");
    assert!(plan.iter().all(|mount| mount.options.iter().all(|option| !option.starts_with("device="))));
    assert_eq!(plan.len(), 3);
}

#[test]
fn many_who_need_the_same_chain_get_the_same() {
    let host = two_layers(&layer("b"));
    let plans: Vec<_> = std::thread::scope(|scope| {
        let host = &host;
        let threads: Vec<_> = (0..8)
            .map(|number| scope.spawn(move || merged_in(host, &prepare(host, &format!("active {number}")))))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect()
    });
    assert!(plans.iter().all(|plan| *plan == plans[0]), "{plans:?}");
    assert_eq!(chains(&host).len(), 1);
    host.assert_consistent();
}
