//! The test bed itself, with containerd's built-in snapshotters: what is compared and measured later must
//! work without us first.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use nexuserofs_integration::bed::{Bed, Needs};
use nexuserofs_integration::harness::{self, Test};
use nexuserofs_integration::node::containerd::ImageMount;
use nexuserofs_integration::node::{BUILTIN_EROFS, Node, NodeOptions, OVERLAYFS, Pull};
use nexuserofs_integration::tree;

const TESTS: &[Test] = &[
    Test { name: "overlayfs_runs", run: |bed| runs(bed, OVERLAYFS) },
    Test { name: "erofs_runs", run: |bed| runs(bed, BUILTIN_EROFS) },
    Test { name: "erofs_equals_overlayfs", run: equal },
];

fn main() -> Result<ExitCode> {
    harness::main(Needs::default(), TESTS)
}

fn runs(bed: &Bed, snapshotter: &str) -> Result<()> {
    let node = Node::start(&bed.place, &format!("runs-{snapshotter}"), &NodeOptions::default())?;
    let image = node.push(&bed.images.demo)?;
    node.containerd.pull("default", snapshotter, Pull::Transfer, &image)?;
    let program =
        "open('/new', 'w').write('written'); print(open('/etc/hostname').read() + open('/new').read())";
    let printed =
        node.containerd.run("default", snapshotter, &image, "one", &["/usr/bin/python3", "-c", program])?;
    ensure!(printed.trim() == "demo\nwritten", "the container printed {printed:?}");
    node.containerd.remove_image("default", &image)?;
    let left = node.containerd.snapshots("default", snapshotter)?;
    ensure!(left.is_empty(), "snapshots were left: {left:?}");
    node.assert_nothing_mounted()
}

fn equal(bed: &Bed) -> Result<()> {
    let node = Node::start(&bed.place, "equal", &NodeOptions::default())?;
    let image = node.push(&bed.images.demo)?;
    let mut trees = Vec::new();
    for snapshotter in [OVERLAYFS, BUILTIN_EROFS] {
        node.containerd.pull("default", snapshotter, Pull::Local, &image)?;
        let target = node.dir().join(snapshotter);
        trees.push(node.containerd.read_image(ImageMount {
            namespace: "default",
            snapshotter,
            reference: &image,
            target: &target,
            writable: false,
        })?);
    }
    let found = tree::differences(&trees[0], &trees[1], 20);
    ensure!(found.is_empty(), "{BUILTIN_EROFS} differs from {OVERLAYFS}:\n{}", found.join("\n"));
    ensure!(trees[0].len() > 1000, "only {} entries were compared", trees[0].len());
    node.assert_nothing_mounted()
}
