//! Layers that dm-verity checks while they are read.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use nexuserofs::error::{Classify as _, Kind};
use nexuserofs::expose::host::corruption::{Corruption, Part, Watch};
use nexuserofs::layer::LayerRecord;
use nexuserofs::snapshot::Labels;
use nexuserofs_guest::dm::{DeviceMapper, State};
use nexuserofs_guest::verity::{Fields, Parameters};
use rustix::io::Errno;
use rustix::mount::MountFlags;

use crate::archive::Entry;
use crate::node::{CHECKED, Container, DIR, IF_POSSIBLE, Node};
use crate::skipped::skip;
use crate::unmounting::unmount;

/// A file of 64 KiB that is found in its layer's file by this word.
const MARK: &str = "find me";

/// A node with an image of one layer, where the kernel has dm-verity.
fn start(test: &str) -> Option<Node> {
    if let Err(error) = DeviceMapper::open() {
        skip(test, error);
        return None;
    }
    let node = Node::start(test)?;
    commit(&node, CHECKED);
    Some(node)
}

fn commit(node: &Node, profile: &str) {
    let marked = MARK.repeat((64 << 10) / MARK.len());
    let mut entries = vec![Entry::file("marked", &marked), Entry::file("other", "whole")];
    // So that more than one block of metadata follows the data.
    entries.extend((0..500).map(|number| Entry::file(format!("zzz/file number {number}"), "")));
    node.commit(profile, "image", None, &entries);
}

/// The record of the node's one layer, and its file.
fn layer(node: &Node) -> (LayerRecord, PathBuf) {
    let mut entries = fs::read_dir(node.path("layers")).unwrap();
    let directory = entries.next().unwrap().unwrap().path();
    assert!(entries.next().is_none());
    let record = serde_json::from_slice(&fs::read(directory.join("layer.json")).unwrap()).unwrap();
    (record, directory.join("layer.erofs"))
}

/// Changes a byte of the marked file and returns the number of its block.
fn tamper(image: &Path) -> u64 {
    let bytes = fs::read(image).unwrap();
    let position = bytes.windows(MARK.len()).position(|window| window == MARK.as_bytes()).unwrap();
    let file = File::options().write(true).open(image).unwrap();
    file.write_all_at(b"F", position as u64).unwrap();
    file.sync_all().unwrap();
    position as u64 / 4096
}

/// Names of the devices over files below the node's root.
fn devices(node: &Node) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir("/sys/block").unwrap() {
        let device = entry.unwrap().path();
        let below = fs::read_dir(device.join("slaves")).into_iter().flatten().flatten();
        let ours = below.filter(|slave| {
            let file = fs::read_to_string(slave.path().join("loop/backing_file")).unwrap_or_default();
            Path::new(&file).starts_with(node.path(""))
        });
        if ours.count() > 0 {
            names.push(fs::read_to_string(device.join("dm/name")).unwrap_or_default().trim_end().to_owned());
        }
    }
    names
}

fn state(device: &str) -> Option<State> {
    DeviceMapper::open().unwrap().state(&device.parse().unwrap()).unwrap()
}

/// What is left when all mounts are gone: the kernel removes devices behind our backs.
fn assert_no_device_stays(node: &Node) {
    for _ in 0..200 {
        if devices(node).is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{:?}", devices(node));
}

#[test]
fn a_changed_byte_is_an_error_for_the_reader_and_is_heard() {
    let Some(node) = start("a_changed_byte_is_an_error_for_the_reader_and_is_heard") else { return };
    let (found, heard) = mpsc::channel();
    let watch = Watch::start(move |corruption| drop(found.send(corruption))).unwrap();
    let container = Container::new(&node.prepare(CHECKED, "key", Some("image")));
    let (record, image) = layer(&node);
    let block = tamper(&image);
    assert_eq!(container.read("other"), "whole");
    assert_eq!(state(&devices(&node)[0]), Some(State::Valid));
    let error = fs::read(container.path("marked")).unwrap_err();
    assert_eq!(Errno::from_io_error(&error), Some(Errno::IO), "{error}");
    let Corruption { layer, part, block: told, device } =
        heard.recv_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!((layer, part, told), (record.key, Part::Data, block));
    assert_eq!(devices(&node), [device.as_str()]);
    assert_eq!(state(&device), Some(State::Corrupted));
    drop(watch);
    drop(container);
    node.snapshotter().remove(CHECKED, "key").unwrap();
    node.snapshotter().remove(CHECKED, "image").unwrap();
    node.snapshotter().cleanup().unwrap();
    assert_eq!(node.mounted(), []);
    assert_no_device_stays(&node);
}

#[test]
fn a_restarted_daemon_takes_over_what_is_checked_by_the_right_parameters() {
    let test = "a_restarted_daemon_takes_over_what_is_checked_by_the_right_parameters";
    let Some(mut node) = start(test) else { return };
    let plan = node.prepare(CHECKED, "key", Some("image"));
    let (before, device) = (node.mounted(), devices(&node));
    node.restart(|_| {});
    assert_eq!((node.report.mounts.adopted, node.report.mounts.unmounted), (1, 0));
    assert_eq!((node.mounted(), devices(&node)), (before, device));
    assert_eq!(node.snapshotter().mounts(CHECKED, "key").unwrap(), plan);

    let (record, image) = layer(&node);
    let parameters = record.verity.unwrap().parameters().unwrap();
    let point = node.path(&node.layers()[0].point);
    node.restart(|_| {
        unmount(&point);
        mount_by(&shortened(&parameters), &image, &format!("nexuserofs-{}-short", record.key), Some(&point));
    });
    assert_eq!((node.report.mounts.adopted, node.report.mounts.unmounted), (0, 1));
    assert_eq!(node.layers().len(), 1, "it is mounted anew");
    assert_eq!(Container::new(&plan).read("other"), "whole");
    assert!(!devices(&node).concat().contains("short"));

    let left = format!("nexuserofs-{}-left", record.key);
    node.restart(|_| mount_by(&parameters, &image, &left, None));
    assert_eq!(node.report.mounts.adopted, 1);
    assert!(!devices(&node).contains(&left), "a device that nothing is mounted from is removed");
}

/// The same image without its last block, which the root hash alone does not tell apart.
fn shortened(parameters: &Parameters) -> Parameters {
    let fields = parameters.fields().clone();
    let data_blocks = (fields.data_blocks.get() - 1).try_into().unwrap();
    Parameters::new(Fields { data_blocks, ..fields }).unwrap()
}

/// Makes a device as somebody else might, and mounts it.
fn mount_by(parameters: &Parameters, image: &Path, name: &str, point: Option<&Path>) {
    let losetup = || Command::new("losetup");
    let attached = losetup().args(["--find", "--show", "--read-only"]).arg(image).output().unwrap();
    let device = PathBuf::from(String::from_utf8(attached.stdout).unwrap().trim());
    let (mapper, name) = (DeviceMapper::open().unwrap(), name.parse().unwrap());
    let number = fs::metadata(&device).unwrap().rdev().into();
    let mapped = mapper.create_verity(&name, parameters, number).unwrap();
    // The loop device goes with the other one.
    assert!(losetup().arg("--detach").arg(&device).status().unwrap().success());
    if let Some(point) = point {
        rustix::mount::mount(mapped.path(), point, "erofs", MountFlags::RDONLY, None).unwrap();
        mapper.remove(&name).unwrap();
    }
}

#[test]
fn a_layer_that_is_mounted_unchecked_is_mounted_anew_for_a_profile_that_checks() {
    let test = "a_layer_that_is_mounted_unchecked_is_mounted_anew_for_a_profile_that_checks";
    let Some(node) = start(test) else { return };
    // The same layer, which is there already, for a profile that does not check.
    commit(&node, DIR);
    let unchecked = Container::new(&node.prepare(DIR, "key", Some("image")));
    assert_eq!(devices(&node), [""; 0]);
    let checked = Container::new(&node.prepare(CHECKED, "key", Some("image")));
    assert_eq!(devices(&node).len(), 1);
    assert_eq!((unchecked.read("other"), checked.read("other")), ("whole".to_owned(), "whole".to_owned()));
    let (_, image) = layer(&node);
    tamper(&image);
    assert!(fs::read(checked.path("marked")).is_err());
}

#[test]
fn where_the_kernel_cannot_check_a_profile_says_what_becomes_of_it() {
    let test = "where_the_kernel_cannot_check_a_profile_says_what_becomes_of_it";
    if DeviceMapper::open().is_ok() {
        skip(test, "the kernel has device-mapper");
        return;
    }
    let Some(node) = Node::start(test) else { return };
    commit(&node, CHECKED);
    commit(&node, IF_POSSIBLE);
    let error = node.snapshotter().prepare(CHECKED, "key", Some("image"), Labels::new()).unwrap_err();
    assert_eq!(error.kind(), Kind::FailedPrecondition, "{error}");
    assert!(error.to_string().contains("dm_mod"), "{error}");
    assert!(node.snapshotter().stat(CHECKED, "key").is_err(), "there is no such snapshot");
    let container = Container::new(&node.prepare(IF_POSSIBLE, "key", Some("image")));
    assert_eq!(container.read("other"), "whole");
}
