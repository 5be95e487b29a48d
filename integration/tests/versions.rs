//! The releases of containerd that people run, with the profile whose plans need no mount manager: pull, run, diff, remove.
//!
//! Each release first does the same with its own overlayfs snapshotter: what fails there is not ours.

use std::fs;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use nexuserofs_integration::bed::{Bed, Needs, Profile};
use nexuserofs_integration::command::Run;
use nexuserofs_integration::harness::{self, Test};
use nexuserofs_integration::host::tools::{CONTAINERD_1_7, CONTAINERD_2_4};
use nexuserofs_integration::node::{
    DaemonOptions, HOST_SNAPSHOTTER, Node, NodeOptions, OVERLAYFS, Pull, Release,
};

const TESTS: &[Test] = &[
    Test { name: "overlayfs_on_2.4", run: |bed| peer(bed, &V2_4) },
    Test { name: "overlayfs_on_2.3", run: |bed| peer(bed, &V2_3) },
    Test { name: "overlayfs_on_2.1", run: |bed| peer(bed, &V2_1) },
    Test { name: "overlayfs_on_1.7", run: |bed| peer(bed, &V1_7) },
    Test { name: "directories_on_2.4", run: |bed| ours(bed, &V2_4, Pull::Transfer, None) },
    Test { name: "directories_on_2.3", run: |bed| ours(bed, &V2_3, Pull::Transfer, None) },
    Test { name: "directories_on_2.1", run: |bed| ours(bed, &V2_1, Pull::Transfer, None) },
    Test { name: "directories_on_1.7", run: |bed| ours(bed, &V1_7, Pull::Local, None) },
    Test { name: "local_client_on_2.1", run: |bed| ours(bed, &V2_1, Pull::Local, None) },
    Test { name: "blocks_on_2.4", run: |bed| ours(bed, &V2_4, Pull::Transfer, Some(BLOCK)) },
    Test { name: "blocks_on_2.3", run: |bed| ours(bed, &V2_3, Pull::Transfer, Some(BLOCK)) },
    Test { name: "blocks_on_2.1", run: |bed| ours(bed, &V2_1, Pull::Transfer, Some(BLOCK)) },
    Test { name: "blocks_on_1.7", run: |bed| ours(bed, &V1_7, Pull::Local, Some(BLOCK)) },
];

/// A release, and how its version number begins.
struct Tested {
    release: Release,
    version: &'static str,
}

const V2_4: Tested = Tested { release: Release::V2_4, version: "2.4." };
const V2_3: Tested = Tested { release: Release::V2_3, version: "2.3." };
const V2_1: Tested = Tested { release: Release::V2_1, version: "2.1." };
const V1_7: Tested = Tested { release: Release::V1_7, version: "1.7." };

/// Size of the writable block.
const BLOCK: &str = "64MiB";

const NAMESPACE: &str = "versions";

/// Adds a file, changes one, takes one away, and puts a directory in the place of another.
const PROGRAM: &str = "import os\n\
    open('/srv/app/new', 'w').write('written')\n\
    open('/etc/hostname', 'a').write('changed')\n\
    os.remove('/srv/app/main.py')\n\
    [os.remove('/srv/app/kept/' + name) for name in os.listdir('/srv/app/kept')]\n\
    os.rmdir('/srv/app/kept'); os.mkdir('/srv/app/kept')\n\
    print(open('/srv/app/new').read(), sorted(os.listdir('/srv/app/opaque')), os.path.exists('/srv/app/removed'))";

/// What of that a diff has to say, as paths in a layer.
const CHANGES: &[&str] = &["srv/app/new", "etc/hostname", "srv/app/.wh.main.py", "srv/app/kept/"];

/// The two ways to say that nothing of the earlier directory is left: as a whole, or file by file.
const REPLACED: [&str; 2] = ["srv/app/kept/.wh..wh..opq", "srv/app/kept/.wh.data"];

fn main() -> Result<ExitCode> {
    let extras = &[CONTAINERD_1_7, CONTAINERD_2_4];
    harness::main(Needs { programs: Some(Profile::Debug), extras, ..Needs::default() }, TESTS)
}

fn peer(bed: &Bed, tested: &Tested) -> Result<()> {
    let options = NodeOptions { release: tested.release, ..NodeOptions::default() };
    let node = Node::start(&bed.place, &format!("peer-{}", tested.version), &options)?;
    pull_run_diff_remove(&node, bed, tested, OVERLAYFS, Pull::Local)
}

fn ours(bed: &Bed, tested: &Tested, how: Pull, default_size: Option<&'static str>) -> Result<()> {
    let options = NodeOptions {
        // Releases before 2.0 tell a differ no namespace; then this one is taken.
        daemon: Some(DaemonOptions { default_size, namespace: Some(NAMESPACE), ..DaemonOptions::default() }),
        release: tested.release,
        ..NodeOptions::default()
    };
    let mode = if default_size.is_some() { "blocks" } else { "directories" };
    let mut node = Node::start(&bed.place, &format!("{mode}-{how:?}-{}", tested.version), &options)?;
    pull_run_diff_remove(&node, bed, tested, HOST_SNAPSHOTTER, how)?;
    let calls = node.daemon()?.calls()?;
    for method in ["Apply", "Diff"] {
        let ours = calls.iter().any(|call| call.method == method && call.code == "Ok");
        ensure!(ours, "another differ than ours answered {method}");
    }
    Ok(())
}

fn pull_run_diff_remove(node: &Node, bed: &Bed, tested: &Tested, snapshotter: &str, how: Pull) -> Result<()> {
    let version = node.containerd.server_version()?;
    ensure!(version.starts_with(tested.version), "{version} runs instead of {}", tested.version);
    let image = node.push(&bed.images.demo)?;
    node.containerd.pull(NAMESPACE, snapshotter, how, &image)?;
    let container = [image.as_str(), "one", "/usr/bin/python3", "-c", PROGRAM];
    let printed = node.containerd.run_and_print(NAMESPACE, snapshotter, &container)?;
    ensure!(printed.trim() == "written ['new'] False", "the container printed {printed:?}");
    check_diff(node, snapshotter, "one")?;
    let ctr = || node.containerd.ctr(NAMESPACE);
    ctr().args(["containers", "rm", "one"]).run()?;
    node.containerd.remove_image(NAMESPACE, &image)?;
    let left = node.containerd.snapshots(NAMESPACE, snapshotter)?;
    ensure!(left.is_empty(), "snapshots were left: {left:?}");
    node.assert_nothing_left()
}

/// Lets containerd make a layer of what a container wrote, and looks for every change in it.
fn check_diff(node: &Node, snapshotter: &str, key: &str) -> Result<()> {
    let layer = node
        .containerd
        .ctr(NAMESPACE)
        .args(["snapshots", "--snapshotter", snapshotter, "diff", "--media-type"])
        .args(["application/vnd.oci.image.layer.v1.tar+gzip", key])
        .bytes()?;
    let file = node.dir().join("diff.tar.gz");
    fs::write(&file, layer)?;
    let listed = Run::new("tar").args(["--list", "--gzip", "--file"]).arg(&file).output()?;
    let paths: Vec<&str> = listed.lines().map(|path| path.trim_start_matches("./")).collect();
    let missing: Vec<&&str> = CHANGES.iter().filter(|change| !paths.contains(change)).collect();
    ensure!(missing.is_empty(), "{missing:?} are missing in the diff: {paths:?}");
    ensure!(REPLACED.iter().any(|path| paths.contains(path)), "the diff keeps what was replaced: {paths:?}");
    ensure!(!paths.contains(&"srv/app/symlink"), "the diff has files that nobody touched: {paths:?}");
    Ok(())
}
