//! Merged layers are one mount, however many containers and layers there are.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use nexuserofs::snapshot::Labels;

use crate::archive::Entry;
use crate::node::{Container, DIR, MERGED, Node, unmount_all};

fn assert_shows_the_image(container: &Container) {
    assert_eq!(["one", "two", "three", "gone"].map(|name| container.read(name)), ["a", "b", "c", ""]);
}

/// The image, with nothing mounted: to unpack a layer over others needs these one by one.
fn image(node: &Node) -> &'static str {
    let image = node.image(MERGED);
    unmount_all(&node.path(""));
    image
}

#[test]
fn containers_share_one_mount() {
    let Some(node) = Node::start("containers_share_one_mount") else { return };
    let image = image(&node);
    let first = Container::new(&node.prepare(MERGED, "first", Some(image)));
    let mounted = node.layers();
    assert_eq!(mounted.len(), 1);
    let second = Container::new(&node.view(MERGED, "second", Some(image)));
    assert_eq!(node.layers(), mounted);
    fs::write(first.path("one"), "changed").unwrap();
    assert_shows_the_image(&second);
    assert!(fs::write(second.path("new"), "").is_err());
    assert_eq!(first.root().0, 0o1777, "the mode of / is the image's");
    // The layers for themselves are mounted where a profile wants them so.
    node.image(DIR);
    assert_shows_the_image(&Container::new(&node.prepare(DIR, "separate", Some(image))));
    assert_eq!(node.layers().len(), 4);
}

#[test]
fn a_merged_mount_outlives_the_daemon_and_comes_back_after_a_reboot() {
    let test = "a_merged_mount_outlives_the_daemon_and_comes_back_after_a_reboot";
    let Some(mut node) = Node::start(test) else { return };
    let image = image(&node);
    let plan = node.prepare(MERGED, "key", Some(image));
    let container = Container::new(&plan);
    let before = node.mounted();
    node.restart(|_| {});
    assert_eq!((node.report.mounts.adopted, node.report.mounts.unmounted), (1, 0));
    assert_eq!(node.mounted(), before, "nothing was mounted anew");
    assert_shows_the_image(&container);
    drop(container);
    node.restart(unmount_all);
    assert_eq!(node.layers().len(), 1);
    assert_eq!(node.snapshotter().mounts(MERGED, "key").unwrap(), plan);
    assert_shows_the_image(&Container::new(&plan));
}

#[test]
fn a_merged_mount_goes_with_the_image() {
    let Some(node) = Node::start("a_merged_mount_goes_with_the_image") else { return };
    let image = image(&node);
    node.prepare(MERGED, "key", Some(image));
    for key in ["key", "c", "b", "a"] {
        node.snapshotter().remove(MERGED, key).unwrap();
    }
    node.snapshotter().cleanup().unwrap();
    assert_eq!(node.mounted(), []);
    assert_eq!(fs::read_dir(node.path("mnt")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(node.path("chains")).unwrap().count(), 0);
}

#[test]
fn owners_are_shifted_in_merged_layers_too() {
    let Some(node) = Node::start("owners_are_shifted_in_merged_layers_too") else { return };
    let owned = |path: &str, uid, gid| Entry::file(path, "x").owner(uid, gid);
    node.commit(MERGED, "low", None, &[owned("low", 0, 0)]);
    node.commit(MERGED, "high", Some("low"), &[owned("high", 33, 44)]);
    let labels = Labels::from([
        ("containerd.io/snapshot/uidmapping".to_owned(), "0:100000:65536".to_owned()),
        ("containerd.io/snapshot/gidmapping".to_owned(), "0:200000:65536".to_owned()),
    ]);
    let plan = node.snapshotter().prepare(MERGED, "pod", Some("high"), labels).unwrap();
    let container = Container::new(&plan);
    let owner = |name: &str| {
        let found = fs::metadata(container.path(name)).unwrap();
        (found.uid(), found.gid())
    };
    assert_eq!((owner("low"), owner("high")), ((100_000, 200_000), (100_033, 200_044)));
}

#[test]
fn a_merged_chain_of_128_layers_is_one_mount() {
    let Some(node) = Node::start("a_merged_chain_of_128_layers_is_one_mount") else { return };
    let names: Vec<String> = (0..128).map(|number| format!("layer-{number}")).collect();
    let mut parent: Option<&str> = None;
    for name in &names {
        node.commit(MERGED, name, parent, &[Entry::file("top", name), Entry::file(name, name)]);
        parent = Some(name);
    }
    unmount_all(&node.path(""));
    let container = Container::new(&node.prepare(MERGED, "key", parent));
    assert_eq!(node.layers().len(), 1);
    assert_eq!(container.read("top"), "layer-127");
    assert!(names.iter().all(|name| container.read(name) == *name));
}
