//! What is checked of a snapshot's image while it is read, by the processes that daemon and operator start.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nexuserofs::error::{Classify as _, Kind};
use nexuserofs::expose::export::Role;
use nexuserofs::snapshot::{Error, Labels};
use serde_json::Value;

use crate::by_hand::Serving;
use crate::driver::Driver;
use crate::node::{CHECKED, Node, PROGRAM, kill, lives, wait_for};

/// Bytes in one read.
const PIECE: usize = 4096;

/// The layers' files of the node's only chain, the oldest first.
fn layers(node: &Node) -> Vec<PathBuf> {
    let record: Value =
        serde_json::from_slice(&fs::read(node.only("chains", "chain.json")).unwrap()).unwrap();
    let key = |layer: &Value| layer["key"].as_str().unwrap().to_owned();
    let keys = record["layers"].as_array().unwrap().iter().map(key);
    keys.map(|key| node.root().join("layers").join(key).join("layer.erofs")).collect()
}

fn connect(node: &Node) -> Driver {
    Driver::connect(&node.place().socket(Role::Image), 1, 64)
}

/// Changes one byte of a file.
fn damage(path: &Path, offset: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[offset] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_changed_byte_of_a_layer_is_an_error() {
    let node = Node::start();
    let image = node.image(CHECKED);
    node.prepare(CHECKED, "vm", Some(image));
    let metadata = fs::metadata(node.only("chains", "fsmeta.erofs")).unwrap().len();
    // The oldest layer lies first behind the metadata, and has data.
    let oldest = layers(&node).remove(0);
    let good = fs::read(&oldest).unwrap();
    let mut driver = connect(&node);
    assert_eq!(driver.read(0, metadata, PIECE), 0);
    assert_eq!(driver.get(0, PIECE), good[..PIECE]);
    damage(&oldest, 2 * PIECE);
    assert!(driver.read(0, metadata + 2 * PIECE as u64, PIECE) < 0);
    assert_eq!(driver.read(0, metadata + PIECE as u64, PIECE), 0, "its neighbour is what it was");
}

#[test]
fn changed_metadata_is_an_error_until_it_is_made_again() {
    let mut node = Node::start();
    let image = node.image(CHECKED);
    node.prepare(CHECKED, "vm", Some(image));
    let path = node.only("chains", "fsmeta.erofs");
    let good = fs::read(&path).unwrap();
    damage(&path, 0);
    assert!(connect(&node).read(0, 0, PIECE) < 0);

    // As the line in the log says.
    let pid = node.pid().unwrap();
    node.restart(|| fs::remove_dir_all(path.parent().unwrap()).unwrap());
    kill(pid);
    wait_for("another process", || node.pid().filter(|other| *other != pid));
    let mut driver = connect(&node);
    assert_eq!(driver.read(0, 0, good.len()), 0);
    assert!(driver.get(0, good.len()) == good);
}

#[test]
fn a_chain_without_a_tree_is_not_served_where_all_must_be_checked() {
    let mut node = Node::start();
    let image = node.image(CHECKED);
    node.prepare(CHECKED, "vm", Some(image));
    let record = node.only("chains", "chain.json");
    let pid = node.pid().unwrap();
    node.restart(|| {
        // As a release would have left it that made no such trees.
        let mut without: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
        without.as_object_mut().unwrap().remove("verity").unwrap();
        fs::write(&record, without.to_string()).unwrap();
        kill(pid);
        wait_for("its end", || (!lives(pid)).then_some(()));
    });
    let error = node.snapshotter().view(CHECKED, "view", Some(image), Labels::new()).unwrap_err();
    assert!(matches!(error, Error::NoMergedTree { .. }), "{error}");
    assert_eq!(error.kind(), Kind::FailedPrecondition);
}

#[test]
fn an_operator_has_the_files_of_a_chain_checked() {
    let node = Node::start();
    let image = node.image(CHECKED);
    node.prepare(CHECKED, "vm", Some(image));
    let (metadata, layers) = (node.only("chains", "fsmeta.erofs"), layers(&node));
    let good = fs::read(&metadata).unwrap();
    damage(&metadata, good.len() - 1);
    let arguments = |layers: &[PathBuf]| {
        let fixed = ["--verify", "--metadata", metadata.to_str().unwrap()].map(str::to_owned);
        fixed.into_iter().chain(layers.iter().map(|path| path.display().to_string())).collect::<Vec<_>>()
    };
    let serving = Serving::start(|_| arguments(&layers));
    let mut driver = serving.connect(Role::Image);
    let last = good.len() - PIECE;
    assert!(driver.read(0, last as u64, PIECE) < 0);
    assert_eq!(driver.read(0, good.len() as u64, PIECE), 0);
    drop(driver);
    let log = serving.log();
    let line = log.lines().find(|line| line.contains("merged metadata")).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("fsmeta.erofs") && line.contains(&format!("offset={last}")), "{line}");
    assert!(line.contains("delete the chain's directory"), "{line}");

    let said = refusal(&arguments(&layers[1..]));
    assert!(said.contains("merged of 3 layers, and 2 are named"), "{said}");
    let others: Vec<PathBuf> = [&layers[..1], &layers[2..], &layers[1..2]].concat();
    let said = refusal(&arguments(&others));
    assert!(said.contains("the oldest first") && said.contains(others[1].to_str().unwrap()), "{said}");
    fs::remove_file(metadata.with_file_name("chain.json")).unwrap();
    let said = refusal(&arguments(&layers));
    assert!(said.contains("no chain.json") && said.contains("--root-hash"), "{said}");
}

#[test]
fn the_root_hash_of_a_device_checks_its_metadata() {
    let node = Node::start();
    let image = node.image(CHECKED);
    node.prepare(CHECKED, "vm", Some(image));
    let home = tempfile::tempdir().unwrap();
    let device = home.path().join("device");
    let mut tool = Command::new(PROGRAM);
    tool.args(["--json", "device", "--layout", "verified", "--output"]).arg(&device).args(layers(&node));
    let output = tool.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    let root = made[0]["root_hash"].as_str().unwrap().to_owned();
    let arguments = |root: &str| {
        let metadata = device.join("fsmeta.erofs").display().to_string();
        let fixed = ["--verify", "--root-hash", root, "--metadata", &metadata].map(str::to_owned);
        let layers = layers(&node).into_iter().map(|path| path.display().to_string());
        fixed.into_iter().chain(layers).collect::<Vec<_>>()
    };
    let metadata = fs::read(device.join("fsmeta.erofs")).unwrap();
    let serving = Serving::start(|_| arguments(&root));
    let mut driver = serving.connect(Role::Image);
    assert_eq!(driver.read(0, 0, metadata.len()), 0);
    assert!(driver.get(0, metadata.len()) == metadata);

    let other = format!("sha256:{}", "ab".repeat(32));
    let serving = Serving::start(|_| arguments(&other));
    assert!(serving.connect(Role::Image).read(0, 0, PIECE) < 0, "a root hash that it does not have");
}

/// What the tool says when it does not serve.
fn refusal(arguments: &[String]) -> String {
    let home = tempfile::tempdir().unwrap();
    let mut tool = Command::new(PROGRAM);
    let output = tool.arg("export").arg("--directory").arg(home.path()).args(arguments).output().unwrap();
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}
