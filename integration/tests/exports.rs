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

const TESTS: &[Test] = &[
    Test { name: "a_machines_disks_outlive_daemon_and_process", run: lifetime },
    Test { name: "changed_metadata_of_a_checked_image_is_an_error", run: checked },
];

const NAMESPACE: &str = "exports";

/// The snapshot of the virtual machine.
const KEY: &str = "vm";

/// One request of a block at a time.
const SHAPE: Shape = Shape { queue_size: 64, depth: 1, request: 4096 };

/// A profile under the name that the node's containerd knows.
const SETTINGS: &str =
    "[profiles.nexuserofs]\nflavour = \"vhost-user\"\nlayers = \"merged\"\ndefault_size = \"64MiB\"\n";

/// What is added to it for layers that are checked.
const CHECKED: &str = "verity = \"require\"\n";

/// Keeps the snapshot.
const LEASE: &str = "exports";

fn main() -> Result<ExitCode> {
    harness::main(Needs { programs: Some(Profile::Debug), ..Needs::default() }, TESTS)
}

/// A node with an image.
struct Prepared {
    node: Node,
    image: String,
    client: Client,
    /// The snapshot of its last layer.
    top: String,
}

fn prepare(bed: &Bed, name: &str, settings: String) -> Result<Prepared> {
    let daemon = DaemonOptions { settings: Some(settings), ..DaemonOptions::default() };
    let options = NodeOptions { daemon: Some(daemon), ..NodeOptions::default() };
    let node = Node::start(&bed.place, name, &options)?;
    let image = node.push(&bed.images.demo)?;
    node.containerd.pull(NAMESPACE, SNAPSHOTTER, Pull::Transfer, &image)?;
    let client = Client::new(Arc::new(node.containerd.connect(NAMESPACE)?), SNAPSHOTTER);
    // Without, the snapshot is garbage from the start.
    client.create_lease(LEASE).context("make a lease")?;
    let client = client.under(LEASE);
    let layers = client.list().context("list the image's snapshots")?;
    let is_parent = |name: &str| layers.iter().any(|other| other.parent == name);
    let top = layers.iter().find(|info| !is_parent(&info.name)).context("the image has no top layer")?;
    let top = top.name.clone();
    Ok(Prepared { node, image, client, top })
}

fn lifetime(bed: &Bed) -> Result<()> {
    let Prepared { mut node, image, client, top } = prepare(bed, "exports", SETTINGS.to_owned())?;
    let mounts = client.prepare(KEY, &top, &Labels::new()).context("prepare")?;
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
    end(&node, &client, &place, &image)?;
    ensure!(!Path::new(&format!("/proc/{second}")).exists(), "the process is still there");
    node.assert_nothing_left()
}

fn checked(bed: &Bed) -> Result<()> {
    let Prepared { mut node, image, client, top } =
        prepare(bed, "exports-checked", format!("{SETTINGS}{CHECKED}"))?;
    client.prepare(KEY, &top, &Labels::new()).context("prepare")?;
    let root = node.daemon()?.root().to_owned();
    let place = only_place(&root)?;
    let metadata = only(&root.join("chains"))?.join("fsmeta.erofs");
    let good = fs::read(&metadata).with_context(|| format!("read {}", metadata.display()))?;
    let middle = good.len() / SHAPE.request / 2 * SHAPE.request;
    let mut bad = good.clone();
    *bad.get_mut(middle).context("there is no metadata")? ^= 1;
    fs::write(&metadata, &bad).with_context(|| format!("change {}", metadata.display()))?;
    let mut driver = Driver::connect(&place.socket(Role::Image), SHAPE)?;
    for (number, block) in good.chunks(SHAPE.request).enumerate() {
        match driver.read((number * SHAPE.request) as u64) {
            Ok(read) => {
                ensure!(number * SHAPE.request != middle && read == block, "block {number} is {read:?}")
            }
            Err(error) => ensure!(number * SHAPE.request == middle, "block {number}: {error:#}"),
        }
    }
    drop(driver);
    end(&node, &client, &place, &image)?;
    node.assert_nothing_left()
}

/// Removes snapshot and image, and waits until nothing is served.
fn end(node: &Node, client: &Client, place: &Place, image: &str) -> Result<()> {
    client.remove(KEY).context("remove")?;
    // containerd has it removed behind the call.
    eventually(|| Ok(place.directory().exists().then(|| "the export is still there".to_owned())))?;
    node.containerd.remove_image(NAMESPACE, image)
}

fn only_place(root: &Path) -> Result<Place> {
    Ok(Place::new(only(&root.join(nexuserofs::expose::export::place::DIRECTORY))?))
}

/// The only entry of a directory.
fn only(directory: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))?;
    let found = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    let [only] = found.as_slice() else {
        anyhow::bail!("{} has not one entry: {found:?}", directory.display())
    };
    Ok(only.clone())
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
