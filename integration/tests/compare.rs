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
    let options = NodeOptions { daemon: Some(DaemonOptions::default()), ..NodeOptions::default() };
    let mut node = Node::start(&bed.place, image.name, &options)?;
    let reference = node.push(image)?;
    for snapshotter in [OVERLAYFS, SNAPSHOTTER] {
        node.containerd.pull(NAMESPACE, snapshotter, Pull::Transfer, &reference)?;
    }
    for layer in node.daemon()?.layers()? {
        check_layer(&layer, &node.dir().join("layer"))?;
    }
    let expected = read(&node, OVERLAYFS, &reference, Access::View)?;
    ensure!(expected.len() > entries, "only {} entries to compare, expected over {entries}", expected.len());
    for (access, what) in [(Access::View, "a view"), (Access::Active, "an active snapshot")] {
        let ours = read(&node, SNAPSHOTTER, &reference, access)?;
        let found = tree::differences(&expected, &ours, 20);
        ensure!(found.is_empty(), "{what} differs, overlayfs on the left:\n{}", found.join("\n"));
    }
    println!("{}: {} entries compared", image.name, expected.len());
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    View,
    Active,
}

fn read(node: &Node, snapshotter: &str, reference: &str, access: Access) -> Result<Tree> {
    let mounted = node.containerd.mount(ImageMount {
        namespace: NAMESPACE,
        snapshotter,
        reference,
        target: &node.dir().join("mounted"),
        writable: access == Access::Active,
    })?;
    let tree = tree::read_image(mounted.path()).with_context(|| format!("plan: {:?}", mounted.plan))?;
    mounted.undo()?;
    Ok(tree)
}
