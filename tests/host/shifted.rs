//! Layers in a user namespace: owners are shifted by mounts, whoever mounts the plan.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};

use nexuserofs::error::{Classify as _, Kind};
use nexuserofs::expose::mount::Mount;
use nexuserofs::snapshot::Labels;

use crate::archive::Entry;
use crate::node::{BLOCK, Container, DIR, Node, unmount_all};

fn labels(uids: &str, gids: &str) -> Labels {
    Labels::from([
        ("containerd.io/snapshot/uidmapping".to_owned(), uids.to_owned()),
        ("containerd.io/snapshot/gidmapping".to_owned(), gids.to_owned()),
    ])
}

fn pod() -> Labels {
    labels("0:100000:65536", "0:200000:65536")
}

/// Files of several owners, and a root directory that is not root's.
fn image(node: &Node, profile: &str) -> &'static str {
    let owned = |path: &str, uid, gid| Entry::file(path, "x").owner(uid, gid);
    node.commit(profile, "low", None, &[owned("low", 0, 0), owned("covered", 9, 9)]);
    let root = Entry::directory("./").mode(0o1750).owner(3, 4);
    node.commit(profile, "high", Some("low"), &[root, owned("high", 33, 44), owned("covered", 1, 2)]);
    "high"
}

fn owner(container: &Container, name: &str) -> (u32, u32) {
    let found = fs::symlink_metadata(container.path(name)).unwrap();
    (found.uid(), found.gid())
}

fn prepare(node: &Node, profile: &str, key: &str) -> Vec<Mount> {
    node.snapshotter().prepare(profile, key, Some("high"), pod()).unwrap()
}

#[test]
fn every_owner_is_shifted_and_others_see_them_as_they_are() {
    let Some(node) = Node::start("every_owner_is_shifted_and_others_see_them_as_they_are") else { return };
    for profile in [DIR, BLOCK] {
        let image = image(&node, profile);
        let container = Container::new(&prepare(&node, profile, "pod"));
        assert_eq!(owner(&container, "low"), (100_000, 200_000));
        assert_eq!(owner(&container, "high"), (100_033, 200_044));
        assert_eq!(owner(&container, "covered"), (100_001, 200_002));
        assert_eq!(container.root(), (0o1750, 100_003, 200_004));
        // What is copied up keeps its owner, and what is new has the one that it is given.
        fs::write(container.path("high"), "changed").unwrap();
        assert_eq!(owner(&container, "high"), (100_033, 200_044));
        fs::write(container.path("new"), "").unwrap();
        chown(container.path("new"), Some(100_007), Some(200_008)).unwrap();
        assert_eq!(owner(&container, "new"), (100_007, 200_008));
        let plain = Container::new(&node.prepare(profile, "plain", Some(image)));
        assert_eq!(owner(&plain, "high"), (33, 44));
        assert_eq!(plain.root(), (0o1750, 3, 4));
    }
}

#[test]
fn views_are_shifted_however_few_layers_they_have() {
    let Some(node) = Node::start("views_are_shifted_however_few_layers_they_have") else { return };
    image(&node, DIR);
    for (parent, expected) in [("high", (100_001, 200_002)), ("low", (100_009, 200_009))] {
        let plan = node.snapshotter().view(DIR, &format!("view of {parent}"), Some(parent), pod()).unwrap();
        let container = Container::new(&plan);
        assert_eq!(owner(&container, "covered"), expected);
        assert!(fs::write(container.path("new"), "").is_err());
    }
}

#[test]
fn without_layers_the_directory_belongs_to_the_namespaces_root() {
    let Some(node) = Node::start("without_layers_the_directory_belongs_to_the_namespaces_root") else {
        return;
    };
    for profile in [DIR, BLOCK] {
        let plan = node.snapshotter().prepare(profile, "empty", None, pod()).unwrap();
        assert_eq!(Container::new(&plan).root(), (0o755, 100_000, 200_000));
    }
}

#[test]
fn shifted_mounts_come_back_after_a_reboot_and_go_with_the_snapshot() {
    let test = "shifted_mounts_come_back_after_a_reboot_and_go_with_the_snapshot";
    let Some(mut node) = Node::start(test) else { return };
    image(&node, BLOCK);
    let plan = prepare(&node, BLOCK, "pod");
    // Two layers for all, two for the pod, and its block.
    let before = node.mounted();
    assert_eq!(before.len(), 5, "{before:?}");
    node.restart(|_| {});
    assert_eq!(node.mounted(), before);
    node.restart(unmount_all);
    assert_eq!(node.mounted().len(), 5);
    assert_eq!(node.snapshotter().mounts(BLOCK, "pod").unwrap(), plan);
    assert_eq!(owner(&Container::new(&plan), "high"), (100_033, 200_044));
    node.snapshotter().remove(BLOCK, "pod").unwrap();
    node.snapshotter().cleanup().unwrap();
    assert_eq!(node.mounted(), node.layers());
    assert_eq!(node.layers().len(), 2);
}

#[test]
fn what_is_no_mapping_is_refused() {
    let Some(node) = Node::start("what_is_no_mapping_is_refused") else { return };
    image(&node, DIR);
    for (uids, gids, named) in [
        ("nonsense", "0:1:1", "uidmapping"),
        ("0:1:1", "1:1:1", "gidmapping"),
        ("0:1:1", "", "gidmapping"),
        ("0:1:5,3:9:1", "0:1:1", "uidmapping"),
    ] {
        let error = node.snapshotter().prepare(DIR, "key", Some("high"), labels(uids, gids)).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument);
        assert!(error.to_string().contains(named), "{error}");
    }
    assert!(node.snapshotter().stat(DIR, "key").is_err());
}
