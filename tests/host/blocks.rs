//! Writable blocks that the daemon mounts.

use std::fs::{self, File};
use std::io::Write as _;

use nexuserofs::snapshot::Labels;
use rustix::io::Errno;

use crate::node::{BLOCK, BLOCK_SIZE, Container, Node, unmount_all};

/// Writes until nothing more fits, and returns how many bytes that were and why it ended.
fn fill(container: &Container) -> (u64, Option<Errno>) {
    let mut file = File::create(container.path("filler")).unwrap();
    let mut written = 0;
    loop {
        match file.write(&[1; 1 << 16]).and_then(|length| file.sync_data().map(|()| length)) {
            Ok(length) => written += length as u64,
            Err(error) => return (written, Errno::from_io_error(&error)),
        }
    }
}

#[test]
fn a_block_limits_its_container_and_nobody_else() {
    let Some(node) = Node::start("a_block_limits_its_container_and_nobody_else") else { return };
    let image = node.image(BLOCK);
    let full = Container::new(&node.prepare(BLOCK, "full", Some(image)));
    let other = Container::new(&node.prepare(BLOCK, "other", Some(image)));
    let (written, reason) = fill(&full);
    assert_eq!(reason, Some(Errno::NOSPC));
    assert!((BLOCK_SIZE / 2..BLOCK_SIZE).contains(&written), "{written}");
    fs::write(other.path("one"), "written").unwrap();
    assert_eq!(other.read("one"), "written");
    let usage = node.snapshotter().usage(BLOCK, "full").unwrap();
    assert!((written..=BLOCK_SIZE + (1 << 20)).contains(&usage.bytes), "{usage:?}");
    assert_eq!(usage.inodes, 1);
}

#[test]
fn a_label_sets_the_size_of_a_block() {
    let Some(node) = Node::start("a_label_sets_the_size_of_a_block") else { return };
    let image = node.image(BLOCK);
    let labels = Labels::from([("containerd.io/snapshot/max-size".to_owned(), (16 << 20).to_string())]);
    let plan = node.snapshotter().prepare(BLOCK, "small", Some(image), labels).unwrap();
    let (written, reason) = fill(&Container::new(&plan));
    assert_eq!(reason, Some(Errno::NOSPC));
    assert!(written < 16 << 20, "{written}");
}

#[test]
fn what_was_written_survives_restart_and_reboot() {
    let Some(mut node) = Node::start("what_was_written_survives_restart_and_reboot") else { return };
    let image = node.image(BLOCK);
    let plan = node.prepare(BLOCK, "key", Some(image));
    fs::write(Container::new(&plan).path("new"), "kept").unwrap();
    let before = node.mounted();
    node.restart(|_| {});
    assert_eq!(node.mounted(), before);
    node.restart(unmount_all);
    assert_eq!(node.snapshotter().mounts(BLOCK, "key").unwrap(), plan);
    assert_eq!(Container::new(&plan).read("new"), "kept");
}

#[test]
fn a_removed_block_is_unmounted_and_deleted() {
    let Some(node) = Node::start("a_removed_block_is_unmounted_and_deleted") else { return };
    let image = node.image(BLOCK);
    node.prepare(BLOCK, "key", Some(image));
    let blocks = || node.mounted().into_iter().filter(|mounted| mounted.fstype == "ext4").count();
    assert_eq!(blocks(), 1);
    node.snapshotter().remove(BLOCK, "key").unwrap();
    node.snapshotter().cleanup().unwrap();
    assert_eq!(blocks(), 0);
    assert_eq!(fs::read_dir(node.path("staging")).unwrap().count(), 0);
}

#[test]
fn a_block_in_use_is_deleted_by_a_later_cleanup() {
    let Some(node) = Node::start("a_block_in_use_is_deleted_by_a_later_cleanup") else { return };
    let image = node.image(BLOCK);
    node.prepare(BLOCK, "key", Some(image));
    let mounted = node.mounted();
    let block = mounted.iter().find(|mounted| mounted.fstype == "ext4").unwrap();
    let user = File::open(node.path(&block.point)).unwrap();
    node.snapshotter().remove(BLOCK, "key").unwrap();
    assert!(node.snapshotter().cleanup().is_err());
    assert_eq!(fs::read_dir(node.path("staging")).unwrap().count(), 1, "it is kept as a whole");
    drop(user);
    node.snapshotter().cleanup().unwrap();
    assert_eq!(fs::read_dir(node.path("staging")).unwrap().count(), 0);
}

#[test]
fn a_start_unmounts_the_block_of_a_snapshot_that_no_record_names() {
    let test = "a_start_unmounts_the_block_of_a_snapshot_that_no_record_names";
    let Some(mut node) = Node::start(test) else { return };
    node.prepare(BLOCK, "key", None);
    // As after a kill between the mount and the end of a removal.
    node.restart(|root| {
        let ours = fs::read_dir(root.join("snapshots")).unwrap().next().unwrap().unwrap().path();
        let orphan = ours.with_file_name("0".repeat(32));
        fs::create_dir_all(orphan.join("rw")).unwrap();
        rustix::mount::mount_bind(ours.join("rw"), orphan.join("rw")).unwrap();
    });
    node.snapshotter().cleanup().unwrap();
    assert_eq!(node.mounted().len(), 1);
    assert_eq!(fs::read_dir(node.path("snapshots")).unwrap().count(), 1);
}
