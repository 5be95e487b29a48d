//! Disks over vhost-user on a whole node: containerd unpacks an image and prepares a snapshot, the daemon is killed and
//! started again, and so is the process that serves; with the crate virtio-driver in the place of a virtual machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use nexuserofs::expose::export::{Place, Role, Running};
use nexuserofs_integration::bed::{Bed, Needs, Profile};
use nexuserofs_integration::client::{Client, Labels};
use nexuserofs_integration::harness::{self, Test, eventually};
use nexuserofs_integration::node::{DaemonOptions, Node, NodeOptions, Pull, SNAPSHOTTER};
use nexuserofs_integration::vhost::driver::{Driver, Shape};
use rustix::process::{Pid, Signal, kill_process};

const TESTS: &[Test] = &[Test { name: "a_machines_disks_outlive_daemon_and_process", run: lifetime }];

const NAMESPACE: &str = "exports";

/// The snapshot of the virtual machine.
const KEY: &str = "vm";

/// One request of a block at a time.
const SHAPE: Shape = Shape { queue_size: 64, depth: 1, request: 4096 };

/// A profile under the name that the node's containerd knows.
const SETTINGS: &str =
    "[profiles.nexuserofs]\nflavour = \"vhost-user\"\nlayers = \"merged\"\ndefault_size = \"64MiB\"\n";

fn main() -> Result<ExitCode> {
    harness::main(Needs { programs: Some(Profile::Debug), ..Needs::default() }, TESTS)
}

fn lifetime(bed: &Bed) -> Result<()> {
    let daemon = DaemonOptions { settings: Some(SETTINGS.to_owned()), ..DaemonOptions::default() };
    let options = NodeOptions { daemon: Some(daemon), ..NodeOptions::default() };
    let mut node = Node::start(&bed.place, "exports", &options)?;
    let image = node.push(&bed.images.demo)?;
    node.containerd.pull(NAMESPACE, SNAPSHOTTER, Pull::Transfer, &image)?;
    let client = Client::new(Arc::new(node.containerd.connect(NAMESPACE)?), SNAPSHOTTER);
    let layers = client.list().context("list the image's snapshots")?;
    let is_parent = |name: &str| layers.iter().any(|other| other.parent == name);
    let top = layers.iter().find(|info| !is_parent(&info.name)).context("the image has no top layer")?;

    let mounts = client.prepare(KEY, &top.name, &Labels::new()).context("prepare")?;
    let types: Vec<&str> = mounts.iter().map(|mount| mount.r#type.as_str()).collect();
    ensure!(types == ["vhost-user-blk"; 2], "the plan is {mounts:?}");
    let place = only_place(node.daemon()?.root())?;
    let [readable, writable] = Role::ALL.map(|role| place.socket(role));
    ensure!(mounts.iter().map(|mount| Path::new(&mount.source)).eq([&readable, &writable]), "{mounts:?}");
    let head = Driver::connect(&readable, SHAPE)?.read(0)?;
    let mut driver = Driver::connect(&writable, SHAPE)?;
    driver.write(1 << 20, &[7; 4096])?;
    driver.flush()?;

    let first = pid(&place)?;
    node.daemon()?.kill()?;
    ensure!(driver.read(1 << 20)? == [7; 4096], "the disk is gone with the daemon");
    node.daemon()?.restart()?;
    ensure!(pid(&place)? == first, "the daemon did not find the process that serves");
    ensure!(client.mounts(KEY).context("ask for the mounts")? == mounts, "the plan is another");

    drop(driver);
    kill(first)?;
    eventually(|| Ok(served_by_another(&place, first)?.is_none().then(|| "nobody serves".to_owned())))?;
    ensure!(Driver::connect(&readable, SHAPE)?.read(0)? == head, "the image is another");
    ensure!(Driver::connect(&writable, SHAPE)?.read(1 << 20)? == [7; 4096], "a flushed write is lost");

    let second = pid(&place)?;
    client.remove(KEY).context("remove")?;
    // containerd has it removed behind the call.
    eventually(|| Ok(place.directory().exists().then(|| "the export is still there".to_owned())))?;
    ensure!(!Path::new(&format!("/proc/{second}")).exists(), "the process is still there");
    node.containerd.remove_image(NAMESPACE, &image)?;
    node.assert_nothing_left()
}

fn only_place(root: &Path) -> Result<Place> {
    let directory = root.join(nexuserofs::expose::export::place::DIRECTORY);
    let entries = fs::read_dir(&directory).with_context(|| format!("read {}", directory.display()))?;
    let places = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    let [place] = places.as_slice() else { anyhow::bail!("not one export: {places:?}") };
    Ok(Place::new(place.clone()))
}

fn pid(place: &Place) -> Result<i32> {
    Ok(Running::find(place)?.context("no process serves")?.pid())
}

fn served_by_another(place: &Place, than: i32) -> Result<Option<i32>> {
    Ok(Running::find(place)?.map(|running| running.pid()).filter(|pid| *pid != than))
}

fn kill(pid: i32) -> Result<()> {
    let pid = Pid::from_raw(pid).context("no process has this number")?;
    kill_process(pid, Signal::KILL).context("kill the process that serves")
}
