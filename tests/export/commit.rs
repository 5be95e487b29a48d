//! A writable block becomes a layer, and no virtual machine writes to it meanwhile.

use std::os::unix::fs::symlink;

use nexuserofs::expose::export::Role;
use nexuserofs::snapshot::model::QUIESCED_LABEL;
use nexuserofs::snapshot::{Error, Labels};

use crate::driver::Driver;
use crate::node::{MERGED, Node, PROGRAM, kill, lives, wait_for};
use crate::skipped::skip;

/// Bytes in one read.
const PIECE: usize = 4096;

fn connect(node: &Node) -> Driver {
    Driver::connect(&node.place().socket(Role::Writable), 1, 64)
}

fn commit(node: &Node) -> Result<(), Error> {
    node.snapshotter().commit(MERGED, "made", "vm", None, Labels::new())
}

#[test]
fn a_block_becomes_a_layer_when_no_machine_has_it() {
    let node = Node::start();
    node.prepare(MERGED, "vm", None);
    let mut driver = connect(&node);
    // At once, and not when the numbers are written that people look at.
    assert!(matches!(commit(&node), Err(Error::BlockHeld { .. })));
    assert_eq!(driver.read(0, 0, PIECE), 0, "the machine has its disk");
    let pid = node.pid().unwrap();
    drop(driver);
    wait_for("the machine's end", || commit(&node).ok());
    assert!(!lives(pid));
    assert_eq!(node.places(), []);
}

#[test]
fn a_machine_that_waits_for_its_disk_has_it_still() {
    let programs = tempfile::tempdir().unwrap();
    let program = programs.path().join("nexuserofs");
    symlink(PROGRAM, &program).unwrap();
    let node = Node::start_with(program.to_str().unwrap());
    node.prepare(MERGED, "vm", None);
    let _machine = connect(&node);
    let is_connected = || {
        let told = node.exports();
        let disk = told[0]["disks"].as_array()?.iter().find(|disk| disk["serial"] == "writable")?;
        (disk["connections"].as_u64()? > disk["disconnections"].as_u64()?).then_some(())
    };
    wait_for("the connection to be told", is_connected);
    // It cannot be started again for now.
    std::fs::remove_file(&program).unwrap();
    let pid = node.pid().unwrap();
    kill(pid);
    wait_for("its end", || (!lives(pid)).then_some(()));
    assert!(matches!(commit(&node), Err(Error::BlockHeld { .. })), "nobody has a lock on the block now");
}

#[test]
fn a_quiet_machine_keeps_its_disk_through_a_commit_and_a_restart() {
    if !rustix::process::geteuid().is_root() {
        return skip(
            "a_quiet_machine_keeps_its_disk_through_a_commit_and_a_restart",
            "mounting a block needs root",
        );
    }
    let mut node = Node::start();
    node.prepare(MERGED, "vm", None);
    let mut driver = connect(&node);
    let pid = node.pid().unwrap();
    let labels = Labels::from([(QUIESCED_LABEL.to_owned(), String::new())]);
    node.snapshotter().commit(MERGED, "made", "vm", None, labels).unwrap();
    assert_eq!(driver.read(0, 0, PIECE), 0, "after the commit");
    node.restart(|| ());
    assert!(lives(pid));
    assert_eq!(driver.read(0, 0, PIECE), 0, "after the restart");
    node.snapshotter().remove(MERGED, "made").unwrap();
    assert!(!lives(pid));
    assert_eq!(node.places(), []);
}
