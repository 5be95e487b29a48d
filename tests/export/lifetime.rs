//! From the first plan to the snapshot's end.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nexuserofs::error::{Classify as _, Kind};
use nexuserofs::expose::export::Role;
use nexuserofs::snapshot::Labels;
use serde_json::Value;

use crate::driver::Driver;
use crate::node::{MERGED, Node, PROGRAM, kill, lives, wait_for};
use crate::skipped::skip;

/// Bytes in one read.
const PIECE: usize = 4096;

fn sockets(node: &Node) -> [PathBuf; 2] {
    let place = node.place();
    [place.socket(Role::Image), place.socket(Role::Writable)]
}

/// What the disk starts with.
fn head(socket: &Path) -> Vec<u8> {
    let mut driver = Driver::connect(socket, 1, 64);
    assert_eq!(driver.read(0, 0, PIECE), 0);
    driver.get(0, PIECE)
}

#[test]
fn a_snapshots_disks_are_served_until_it_is_removed() {
    let node = Node::start();
    let image = node.image(MERGED);
    assert!(!node.root().join("exports").exists(), "nobody asked for any");
    let plan = node.prepare(MERGED, "vm", Some(image));
    let [image, writable] = sockets(&node);
    let entries: Vec<_> =
        plan.iter().map(|mount| (mount.fstype.as_str(), PathBuf::from(&mount.source))).collect();
    assert_eq!(entries, [("vhost-user-blk", image.clone()), ("vhost-user-blk", writable.clone())]);
    assert!(plan[0].options.contains(&"layout=merged".to_owned()), "{plan:?}");
    assert!(fs::symlink_metadata(&image).unwrap().file_type().is_socket());

    assert_eq!(head(&image), fs::read(node.only("chains", "fsmeta.erofs")).unwrap()[..PIECE]);
    let mut driver = Driver::connect(&writable, 2, 64);
    let block = node.only("snapshots", "rwlayer.img");
    driver.put(0, &[7; PIECE]);
    assert_eq!((driver.write(1, 1 << 20, PIECE), driver.flush(1)), (0, 0));
    assert_eq!(fs::read(&block).unwrap()[1 << 20..][..PIECE], [7; PIECE]);

    let pid = node.pid().unwrap();
    assert!(lives(pid));
    node.snapshotter().remove(MERGED, "vm").unwrap();
    assert!(!lives(pid));
    assert_eq!(node.places(), []);
}

#[test]
fn a_view_has_the_image_and_no_more() {
    let node = Node::start();
    let image = node.image(MERGED);
    let plan = node.snapshotter().view(MERGED, "view", Some(image), Labels::new()).unwrap();
    assert_eq!(plan.len(), 1);
    let [image, writable] = sockets(&node);
    assert!(!writable.exists());
    let mut driver = Driver::connect(&image, 1, 64);
    assert!(driver.write(0, 0, PIECE) < 0, "nobody writes to an image");
}

#[test]
fn the_process_has_no_rights() {
    let node = Node::start();
    node.prepare(MERGED, "vm", None);
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid().unwrap())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:\t")));
        line.unwrap().split('\t').map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(field("Seccomp"), ["2"]);
    assert_eq!(field("NoNewPrivs"), ["1"]);
    for capabilities in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(capabilities), ["0000000000000000"], "{capabilities}");
    }
    if !rustix::process::geteuid().is_root() {
        return skip("the_process_has_no_rights", "only root's processes become another user");
    }
    assert_eq!(field("Uid"), ["65534"; 4]);
    assert_eq!(field("Gid"), ["65534"; 4]);
    assert_eq!(field("Groups")[0].trim(), "");
}

#[test]
fn it_outlives_the_daemon_and_is_found_again() {
    let mut node = Node::start();
    let image = node.image(MERGED);
    let plan = node.prepare(MERGED, "vm", Some(image));
    let [image, writable] = sockets(&node);
    let mut driver = Driver::connect(&writable, 1, 64);
    let pid = node.pid().unwrap();
    node.restart(|| assert_eq!(driver.read(0, 0, PIECE), 0, "while there is no daemon"));
    assert_eq!(node.pid(), Some(pid));
    assert_eq!(driver.read(0, 0, PIECE), 0);
    assert_eq!(node.snapshotter().mounts(MERGED, "vm").unwrap(), plan);
    head(&image);
    node.snapshotter().remove(MERGED, "vm").unwrap();
    assert!(!lives(pid), "found, and so ended");
}

#[test]
fn one_that_ended_is_started_again_whether_the_daemon_runs_or_not() {
    let mut node = Node::start();
    let image = node.image(MERGED);
    node.prepare(MERGED, "vm", Some(image));
    let [image, writable] = sockets(&node);
    let mut driver = Driver::connect(&writable, 1, 64);
    driver.put(0, &[9; PIECE]);
    assert_eq!((driver.write(0, 4096, PIECE), driver.flush(0)), (0, 0));
    drop(driver);

    let first = node.pid().unwrap();
    kill(first);
    let second = wait_for("another process", || node.pid().filter(|pid| *pid != first));
    let mut driver = Driver::connect(&writable, 1, 64);
    assert_eq!(driver.read(0, 4096, PIECE), 0);
    assert_eq!(driver.get(0, PIECE), [9; PIECE], "what was flushed is there");
    drop(driver);

    node.restart(|| {
        kill(second);
        wait_for("its end", || (!lives(second)).then_some(()));
    });
    let third = node.pid().unwrap();
    assert_ne!(third, second);
    head(&image);
}

#[test]
fn what_no_snapshot_has_any_more_is_ended_at_the_next_start() {
    let mut node = Node::start();
    node.prepare(MERGED, "vm", None);
    let (pid, root) = (node.pid().unwrap(), node.root().to_owned());
    node.restart(|| {
        // As after a restore of the records from before.
        fs::remove_file(root.join("metadata.redb")).unwrap();
        fs::remove_dir_all(root.join("snapshots")).unwrap();
    });
    assert!(!lives(pid));
    assert_eq!(node.places(), []);
}

#[test]
fn what_was_done_is_listed() {
    let node = Node::start();
    let image = node.image(MERGED);
    node.prepare(MERGED, "vm", Some(image));
    let [image, _] = sockets(&node);
    let mut driver = Driver::connect(&image, 1, 64);
    assert_eq!(driver.read(0, 0, PIECE), 0);
    assert!(driver.read(0, 1 << 40, PIECE) < 0, "beyond the end");
    let disk = wait_for("the numbers", || {
        let told = node.exports();
        assert_eq!((&told[0]["profile"], &told[0]["key"]), (&MERGED.into(), &"vm".into()));
        assert_eq!(told[0]["pid"], node.pid().unwrap());
        let disk = told[0]["disks"].as_array()?.first()?.clone();
        (disk["reads"]["requests"] == 2).then_some(disk)
    });
    assert_eq!((&disk["serial"], &disk["connections"]), (&"image".into(), &1.into()));
    assert_eq!((&disk["reads"]["bytes"], &disk["reads"]["errors"]), (&(PIECE as u64).into(), &1.into()));
    let counted: u64 =
        disk["reads"]["latencies"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(counted, 2);
    let human = Command::new(PROGRAM).arg("exports").arg("--root").arg(node.root()).output().unwrap();
    let human = String::from_utf8(human.stdout).unwrap();
    assert!(human.contains("merged vm: process") && human.contains("2 requests"), "{human}");
}

#[test]
fn devices_tells_of_the_sockets_and_of_no_other_way_to_write() {
    let node = Node::start();
    let image = node.image(MERGED);
    node.prepare(MERGED, "vm", Some(image));
    let [image, writable] = sockets(&node).map(|path| fs::canonicalize(path).unwrap().display().to_string());
    let run = |arguments: &[&str]| {
        let output = Command::new(PROGRAM).args(arguments).arg("--root").arg(node.root()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let told: Value = serde_json::from_str(&run(&["--json", "devices", "vm"])).unwrap();
    let of = |name: &str| told.as_array().unwrap().iter().find(|way| way["transport"] == name).unwrap();
    assert_eq!(of("vhost-user")["disks"][0]["path"], Value::from(image.clone()));
    assert_eq!(of("vhost-user")["disks"][1]["path"], Value::from(writable.clone()));
    assert_eq!(of("files")["state"], "impossible", "two would write to one file system");
    let qemu = run(&["devices", "--format", "qemu", "vm"]);
    assert!(
        qemu.contains(&format!("path={image}")) && qemu.contains("vhost-user-blk-pci,chardev=writable"),
        "{qemu}"
    );
}

#[test]
fn a_program_that_is_not_there_is_named_and_leaves_no_snapshot() {
    let root = tempfile::tempdir().unwrap();
    let error = crate::node::open_with(root.path(), "/nonexistent/nexuserofs")
        .prepare(MERGED, "vm", None, Labels::new())
        .unwrap_err();
    assert_eq!(error.kind(), Kind::FailedPrecondition);
    assert!(error.to_string().contains("/nonexistent/nexuserofs"), "{error}");
    let snapshotter = crate::node::open_with(root.path(), PROGRAM);
    assert!(snapshotter.list(MERGED).is_empty());
    assert_eq!(fs::read_dir(root.path().join("exports")).unwrap().count(), 0);
}
