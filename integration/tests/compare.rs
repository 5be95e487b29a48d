//! What our layers hold, against judges that no one here wrote: fsck.erofs, the kernel, and containerd's
//! overlayfs snapshotter on the same image.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use nexuserofs_integration::bed::{Bed, Needs, Profile};
use nexuserofs_integration::command::Run;
use nexuserofs_integration::harness::{self, Test};
use nexuserofs_integration::images::Image;
use nexuserofs_integration::node::containerd::ImageMount;
use nexuserofs_integration::node::{DaemonOptions, Node, NodeOptions, OVERLAYFS, Pull, SNAPSHOTTER};
use nexuserofs_integration::tree::{self, Tree};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

const TESTS: &[Test] = &[
    Test { name: "demo", run: |bed| compare(bed, &bed.images.demo, 5_000) },
    Test { name: "demo_in_block_mode", run: block_mode },
    Test { name: "encodings", run: |bed| compare(bed, &bed.images.encodings, 15) },
    Test { name: "pypi", run: |bed| compare_tree(bed, 0) },
    Test { name: "npm", run: |bed| compare_tree(bed, 1) },
    Test { name: "debian", run: |bed| compare_tree(bed, 2) },
];

const NAMESPACE: &str = "compare";

fn main() -> Result<ExitCode> {
    harness::main(Needs { programs: Some(Profile::Debug), trees: true, ..Needs::default() }, TESTS)
}

fn compare_tree(bed: &Bed, index: usize) -> Result<()> {
    let image = bed.images.trees.get(index).context("the bed has fewer large trees")?;
    compare(bed, image, 20_000)
}

/// Compares one image, whose tree has more than `entries` entries.
fn compare(bed: &Bed, image: &Image, entries: usize) -> Result<()> {
    let (mut node, reference) = unpack_with_both(bed, image.name, image, DaemonOptions::default())?;
    for layer in node.daemon()?.layers()? {
        check_layer(&layer, &node.dir().join("layer"))?;
    }
    let expected = read(&node, OVERLAYFS, &reference, Access::View)?;
    ensure!(expected.len() > entries, "only {} entries to compare, expected over {entries}", expected.len());
    for access in [Access::View, Access::Active] {
        ensure_equal(&expected, &read(&node, SNAPSHOTTER, &reference, access)?, access)?;
    }
    println!("{}: {} entries compared", image.name, expected.len());
    Ok(())
}

/// What a container sees whose writable layer is a file system of its own.
fn block_mode(bed: &Bed) -> Result<()> {
    let options = DaemonOptions { default_size: Some("64MiB"), ..DaemonOptions::default() };
    let (node, reference) = unpack_with_both(bed, "block-mode", &bed.images.demo, options)?;
    let expected = read(&node, OVERLAYFS, &reference, Access::Active)?;
    let ours = read(&node, SNAPSHOTTER, &reference, Access::Active)?;
    ensure_equal(&expected, &ours, Access::Active)
}

/// Starts a node in which overlayfs and we have unpacked an image, and returns the image's reference.
fn unpack_with_both(bed: &Bed, name: &str, image: &Image, daemon: DaemonOptions) -> Result<(Node, String)> {
    let options = NodeOptions { daemon: Some(daemon), ..NodeOptions::default() };
    let node = Node::start(&bed.place, name, &options)?;
    let reference = node.push(image)?;
    for snapshotter in [OVERLAYFS, SNAPSHOTTER] {
        node.containerd.pull(NAMESPACE, snapshotter, Pull::Transfer, &reference)?;
    }
    Ok((node, reference))
}

fn ensure_equal(expected: &Tree, ours: &Tree, access: Access) -> Result<()> {
    let found = tree::differences(expected, ours, 20);
    ensure!(found.is_empty(), "{access:?} differs, overlayfs on the left:\n{}", found.join("\n"));
    Ok(())
}

/// Lets fsck.erofs read everything in a layer, and the kernel mount it.
fn check_layer(layer: &Path, target: &Path) -> Result<()> {
    Run::new("fsck.erofs").arg("--extract").arg(layer).run()?;
    std::fs::create_dir_all(target)?;
    mount(layer, target, "erofs", MountFlags::RDONLY, None)
        .with_context(|| format!("mount {}", layer.display()))?;
    let read = tree::read(target);
    unmount(target, UnmountFlags::empty())?;
    read.map(drop)
}

/// How an image's root file system is had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    View,
    Active,
}

fn read(node: &Node, snapshotter: &str, reference: &str, access: Access) -> Result<Tree> {
    node.containerd.read_image(ImageMount {
        namespace: NAMESPACE,
        snapshotter,
        reference,
        target: &node.dir().join("mounted"),
        writable: access == Access::Active,
    })
}
