//! The main job on real containerd: pull, run, share, remove.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, ensure};
use nexuserofs_integration::bed::{Bed, Needs, Profile};
use nexuserofs_integration::harness::{self, Test, eventually};
use nexuserofs_integration::images::Image;
use nexuserofs_integration::node::{DaemonOptions, Node, NodeOptions, Pull, SNAPSHOTTER};

const TESTS: &[Test] = &[
    Test {
        name: "transfer_service_in_directory_mode",
        run: |bed| pull_and_run(bed, "a", Pull::Transfer, None),
    },
    Test { name: "local_client_in_directory_mode", run: |bed| pull_and_run(bed, "b", Pull::Local, None) },
    Test {
        name: "transfer_service_in_block_mode",
        run: |bed| pull_and_run(bed, "c", Pull::Transfer, Some(BLOCK)),
    },
    Test { name: "local_client_in_block_mode", run: |bed| pull_and_run(bed, "d", Pull::Local, Some(BLOCK)) },
    Test { name: "two_namespaces_share_layers", run: share },
    Test { name: "simultaneous_pulls_share_layers", run: share_in_flight },
    Test { name: "a_block_limits_what_a_container_writes", run: limit },
    Test { name: "restart_keeps_containers_and_plans", run: restart },
    Test { name: "a_damaged_blob_is_refused_and_retried", run: damage },
];

/// Size of the writable block.
const BLOCK: &str = "64MiB";

fn main() -> Result<ExitCode> {
    harness::main(Needs { programs: Some(Profile::Debug), ..Needs::default() }, TESTS)
}

fn start(bed: &Bed, name: &str, default_size: Option<&'static str>) -> Result<Node> {
    let options = NodeOptions {
        daemon: Some(DaemonOptions { default_size, ..DaemonOptions::default() }),
        ..NodeOptions::default()
    };
    Node::start(&bed.place, name, &options)
}

/// The whole way of an image: pulled, every layer built by us, run in a way that reads and writes, removed.
fn pull_and_run(bed: &Bed, name: &str, how: Pull, default_size: Option<&'static str>) -> Result<()> {
    let mut node = start(bed, name, default_size)?;
    let image = node.push(&bed.images.demo)?;
    node.containerd.pull("default", SNAPSHOTTER, how, &image)?;
    ensure_built_by_us(&mut node, &bed.images.demo, "default")?;
    let printed = python(
        &node,
        &image,
        "import os; open('/srv/app/new', 'w').write('written'); os.remove('/srv/app/main.py'); \
         print(open('/etc/hostname').read().strip(), open('/srv/app/new').read(), \
         sorted(os.listdir('/srv/app/opaque')), os.path.exists('/srv/app/removed'), os.path.exists('/srv/app/main.py'))",
    )?;
    ensure!(printed == "demo written ['new'] False False", "the container printed {printed:?}");
    let again = python(&node, &image, "import os; print(os.path.exists('/srv/app/new'))")?;
    ensure!(again == "False", "what one container wrote is seen by the next");
    node.containerd.remove_image("default", &image)?;
    ensure_nothing_left(&mut node, &["default"])
}

fn python(node: &Node, image: &str, program: &str) -> Result<String> {
    let printed =
        node.containerd.run("default", SNAPSHOTTER, image, "one", &["/usr/bin/python3", "-c", program])?;
    Ok(printed.trim().to_owned())
}

/// Compares the calls in the daemon's log with the layers of the image.
fn ensure_built_by_us(node: &mut Node, image: &Image, namespace: &str) -> Result<()> {
    let applied: BTreeSet<String> = node
        .daemon()?
        .calls()?
        .into_iter()
        .filter(|call| call.method == "Apply" && call.code == "Ok" && call.namespace == namespace)
        .map(|call| call.key)
        .collect();
    let layers: BTreeSet<String> = image.layers()?.into_iter().map(|layer| layer.blob.digest).collect();
    ensure!(applied == layers, "our differ applied {applied:?}, but the image has {layers:?}");
    Ok(())
}

/// After the image is gone and garbage is collected, nothing may remind of it.
fn ensure_nothing_left(node: &mut Node, namespaces: &[&str]) -> Result<()> {
    for namespace in namespaces {
        let left = node.containerd.snapshots(namespace, SNAPSHOTTER)?;
        ensure!(left.is_empty(), "containerd has snapshots left in {namespace}: {left:?}");
    }
    let daemon = node.daemon()?;
    eventually(|| {
        let mut left: Vec<PathBuf> = Vec::new();
        for directory in ["layers", "chains", "snapshots", "staging"] {
            left.extend(daemon.entries(directory)?);
        }
        Ok((!left.is_empty()).then(|| format!("left below the daemon's root: {left:?}")))
    })?;
    node.assert_nothing_mounted()
}

fn share(bed: &Bed) -> Result<()> {
    let mut node = start(bed, "share", None)?;
    let image = node.push(&bed.images.demo)?;
    node.containerd.pull("one", SNAPSHOTTER, Pull::Transfer, &image)?;
    let layers = node.daemon()?.layers()?;
    ensure!(layers.len() == bed.images.demo.layers()?.len(), "not one file per layer: {layers:?}");
    node.containerd.pull("two", SNAPSHOTTER, Pull::Transfer, &image)?;
    ensure!(node.daemon()?.layers()? == layers, "a second namespace made layer files of its own");
    node.containerd.remove_image("one", &image)?;
    ensure!(
        node.daemon()?.layers()? == layers,
        "removing the image in one namespace took layers of the other"
    );
    let printed =
        node.containerd.run("two", SNAPSHOTTER, &image, "one", &["/usr/bin/python3", "-c", "print(1)"])?;
    ensure!(printed.trim() == "1", "the container printed {printed:?}");
    node.containerd.remove_image("two", &image)?;
    ensure_nothing_left(&mut node, &["one", "two"])
}

fn share_in_flight(bed: &Bed) -> Result<()> {
    let mut node = start(bed, "share-in-flight", None)?;
    let image = node.push(&bed.images.demo)?;
    let namespaces = ["one", "two", "three"];
    let containerd = &node.containerd;
    std::thread::scope(|scope| {
        let pulls: Vec<_> = namespaces
            .iter()
            .map(|namespace| {
                let image = &image;
                scope.spawn(move || containerd.pull(namespace, SNAPSHOTTER, Pull::Transfer, image))
            })
            .collect();
        pulls
            .into_iter()
            .try_for_each(|pull| pull.join().map_err(|_| anyhow!("a pulling thread panicked"))?)
    })?;
    let layers = node.daemon()?.layers()?;
    ensure!(layers.len() == bed.images.demo.layers()?.len(), "not one file per layer: {layers:?}");
    for namespace in namespaces {
        node.containerd.remove_image(namespace, &image)?;
    }
    ensure_nothing_left(&mut node, &namespaces)
}

fn limit(bed: &Bed) -> Result<()> {
    let node = start(bed, "limit", Some(BLOCK))?;
    let image = node.push(&bed.images.demo)?;
    node.containerd.pull("default", SNAPSHOTTER, Pull::Transfer, &image)?;
    let printed = python(
        &node,
        &image,
        "import errno, os\n\
         f = open('/large', 'wb')\n\
         try:\n  [f.write(b'x' * (1 << 20)) for _ in range(128)]\n\
         except OSError as error: print(errno.errorcode[error.errno], os.path.getsize('/large') > 32 << 20)",
    )?;
    ensure!(printed == "ENOSPC True", "a container with {BLOCK} to write printed {printed:?}");
    Ok(())
}

/// A container keeps running while the daemon restarts, and snapshots get the same plan as before.
fn restart(bed: &Bed) -> Result<()> {
    let mut node = start(bed, "restart", None)?;
    let image = node.push(&bed.images.demo)?;
    node.containerd.pull("default", SNAPSHOTTER, Pull::Transfer, &image)?;
    let ctr = || node.containerd.ctr("default");
    node.containerd
        .run_container("default", SNAPSHOTTER)
        .args(["--detach", &image, "sleeper"])
        .args(["/usr/bin/python3", "-c", "import time; time.sleep(600)"])
        .run()?;
    let connection = node.containerd.connect("default")?;
    let before = connection.mounts(SNAPSHOTTER, "sleeper")?;
    let daemon = node.daemon.as_mut().context("no daemon")?;
    let status = daemon.stop()?;
    ensure!(status.success(), "the daemon ended with {status} on SIGTERM");
    daemon.restart()?;
    let after = connection.mounts(SNAPSHOTTER, "sleeper")?;
    ensure!(after == before, "the plan changed over a restart, from {before:?} to {after:?}");
    let printed = ctr()
        .args(["tasks", "exec", "--exec-id", "look", "sleeper"])
        .args(["/usr/bin/python3", "-c", "print(open('/etc/hostname').read())"])
        .output()?;
    ensure!(printed.trim() == "demo", "the container that outlived the daemon printed {printed:?}");
    ctr().args(["tasks", "rm", "--force", "sleeper"]).run()?;
    ctr().args(["containers", "rm", "sleeper"]).run()?;
    node.containerd.remove_image("default", &image)?;
    ensure_nothing_left(&mut node, &["default"])
}

/// A layer blob that rots in the content store: a clear error, nothing left, and success once it is whole.
fn damage(bed: &Bed) -> Result<()> {
    let mut node = start(bed, "damage", None)?;
    let image = node.push(&bed.images.demo)?;
    node.containerd.fetch("default", &image)?;
    let digest = bed.images.demo.layers()?.into_iter().next().context("the image has no layer")?.blob.digest;
    let blob = node
        .containerd
        .root()
        .join("io.containerd.content.v1.content/blobs/sha256")
        .join(digest.trim_start_matches("sha256:"));
    let whole = fs::read(&blob)?;
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for (damaged, what) in [(&whole[..middle], "cut"), (flipped.as_slice(), "flipped")] {
        // The store's files are read-only to everyone but root.
        fs::write(&blob, damaged)?;
        let error = node
            .containerd
            .ctr("default")
            .args(["images", "pull", "--plain-http", "--local", "--snapshotter", SNAPSHOTTER, &image])
            .fails()?;
        ensure!(error.contains(&digest[7..19]), "a {what} blob is not named in: {error}");
        let layers = node.daemon()?.layers()?;
        ensure!(layers.is_empty(), "a {what} blob left layers: {layers:?}");
        let staging = node.daemon()?.entries("staging")?;
        ensure!(staging.is_empty(), "a {what} blob left files in staging: {staging:?}");
    }
    fs::write(&blob, whole)?;
    node.containerd.pull("default", SNAPSHOTTER, Pull::Local, &image)?;
    node.containerd.remove_image("default", &image)?;
    ensure_nothing_left(&mut node, &["default"])
}
