//! Mounts outlive the daemon, come back after a reboot, and go with what they show.

use std::fs::{self, File};
use std::path::Path;

use nexuserofs::error::{Classify as _, Kind};

use crate::node::{Container, DIR, Node, unmount_all};

#[test]
fn a_restarted_daemon_takes_over_what_is_mounted() {
    let Some(mut node) = Node::start("a_restarted_daemon_takes_over_what_is_mounted") else { return };
    let image = node.image(DIR);
    let plan = node.prepare(DIR, "key", Some(image));
    let container = Container::new(&plan);
    let before = node.mounted();
    node.restart(|_| {});
    assert_eq!((node.report.mounts.adopted, node.report.mounts.unmounted), (3, 0));
    assert_eq!(node.mounted(), before, "nothing was mounted anew");
    assert_eq!(node.snapshotter().mounts(DIR, "key").unwrap(), plan);
    assert_eq!(container.read("three"), "c");
    // Layers that no plan has a name for are known too.
    node.snapshotter().remove(DIR, "key").unwrap();
    node.restart(|_| {});
    assert_eq!(node.report.mounts.adopted, 3);
    node.view(DIR, "other", Some(image));
    assert_eq!(node.mounted(), before);
}

#[test]
fn after_a_reboot_plans_have_what_they_name() {
    let Some(mut node) = Node::start("after_a_reboot_plans_have_what_they_name") else { return };
    let image = node.image(DIR);
    let plan = node.prepare(DIR, "key", Some(image));
    node.restart(unmount_all);
    assert_eq!(node.layers().len(), 3);
    assert_eq!(Container::new(&plan).read("two"), "b");
    assert_eq!(node.snapshotter().mounts(DIR, "key").unwrap(), plan);
}

/// What is left of mounted layers once all is removed.
fn assert_nothing_is_left(node: &Node) {
    assert_eq!(node.mounted(), []);
    let names: Vec<std::ffi::OsString> =
        fs::read_dir(node.path("mnt")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.is_empty(), "{names:?}");
}

fn remove(node: &Node, keys: &[&str]) {
    keys.iter().for_each(|key| node.snapshotter().remove(DIR, key).unwrap());
}

#[test]
fn layers_are_unmounted_when_their_image_is_removed() {
    let Some(node) = Node::start("layers_are_unmounted_when_their_image_is_removed") else { return };
    let image = node.image(DIR);
    node.prepare(DIR, "key", Some(image));
    remove(&node, &["key"]);
    node.snapshotter().cleanup().unwrap();
    assert_eq!(node.layers().len(), 3, "the image is still there");
    remove(&node, &["c", "b", "a"]);
    node.snapshotter().cleanup().unwrap();
    assert_nothing_is_left(&node);
}

#[test]
fn a_container_outlives_the_removal_of_its_image() {
    let Some(node) = Node::start("a_container_outlives_the_removal_of_its_image") else { return };
    let image = node.image(DIR);
    let container = Container::new(&node.prepare(DIR, "key", Some(image)));
    remove(&node, &["key", "c", "b", "a"]);
    node.snapshotter().cleanup().unwrap();
    assert_nothing_is_left(&node);
    assert_eq!(container.read("two"), "b");
}

#[test]
fn a_layer_in_use_is_unmounted_by_a_later_cleanup() {
    let Some(node) = Node::start("a_layer_in_use_is_unmounted_by_a_later_cleanup") else { return };
    let image = node.image(DIR);
    node.prepare(DIR, "key", Some(image));
    let user = File::open(node.path(&node.layers()[0].point)).unwrap();
    remove(&node, &["key", "c", "b", "a"]);
    let refusal = node.snapshotter().cleanup().unwrap_err();
    assert_eq!(refusal.kind(), Kind::FailedPrecondition);
    assert_eq!(node.layers().len(), 1);
    // The same image comes back meanwhile, and does not get the name that is still taken.
    node.image(DIR);
    node.prepare(DIR, "again", Some(image));
    assert_eq!(node.layers().len(), 4);
    drop(user);
    node.snapshotter().cleanup().unwrap();
    assert_eq!(node.layers().len(), 3);
}

#[test]
fn a_start_takes_away_what_nothing_needs_and_no_more() {
    let Some(mut node) = Node::start("a_start_takes_away_what_nothing_needs_and_no_more") else { return };
    let image = node.image(DIR);
    node.prepare(DIR, "key", Some(image));
    let right = node.mounted();
    let (strange, foreign) = (node.path("mnt/zzzz"), node.path("foreign"));
    let bind = |root: &Path, point: &Path| {
        fs::create_dir(point).unwrap();
        rustix::mount::mount_bind(root, point).unwrap();
    };
    let source = tempfile::tempdir().unwrap();
    node.restart(|_| {
        bind(source.path(), &strange);
        bind(source.path(), &foreign);
    });
    assert_eq!((node.report.mounts.adopted, node.report.mounts.unmounted), (3, 1));
    let mut left = node.mounted();
    left.retain(|mounted| mounted.point != "foreign");
    assert_eq!(left, right);
    assert_eq!(node.mounted().len(), right.len() + 1, "what is not ours to judge stays");
    assert!(!strange.exists());
}

#[test]
fn a_start_does_not_fail_on_a_layer_that_cannot_be_mounted() {
    let Some(mut node) = Node::start("a_start_does_not_fail_on_a_layer_that_cannot_be_mounted") else {
        return;
    };
    let image = node.image(DIR);
    node.prepare(DIR, "key", Some(image));
    node.restart(|root| {
        unmount_all(root);
        for layer in fs::read_dir(root.join("layers")).unwrap() {
            let image = layer.unwrap().path().join("layer.erofs");
            let length = fs::metadata(&image).unwrap().len();
            fs::write(&image, vec![0; length as usize]).unwrap();
        }
    });
    assert_eq!(node.layers(), []);
    let error = node.snapshotter().mounts(DIR, "key").unwrap_err();
    assert!(error.to_string().contains("cannot mount"), "{error}");
    let error = node.snapshotter().prepare(DIR, "new", Some(image), Default::default()).unwrap_err();
    assert!(error.to_string().contains("cannot mount"), "{error}");
    assert!(node.snapshotter().stat(DIR, "new").is_err(), "what cannot be mounted is not there");
}
