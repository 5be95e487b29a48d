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
use serde_json::Value;

const TESTS: &[Test] = &[
    Test { name: "demo", run: |bed| compare(bed, &bed.images.demo, 5_000) },
    Test { name: "demo_in_block_mode", run: block_mode },
    Test { name: "demo_with_trees", run: trees },
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
    let (mut node, reference) = unpack_with_both(bed, image.name, image, with_trees())?;
    for layer in node.daemon()?.layers()? {
        check_layer(&layer, &node.dir().join("layer"))?;
        check_tree(&layer, node.dir())?;
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

/// Every layer with its dm-verity tree, as veritysetup judges it.
fn trees(bed: &Bed) -> Result<()> {
    let (mut node, _) = unpack_with_both(bed, "trees", &bed.images.demo, with_trees())?;
    let layers = node.daemon()?.layers()?;
    for layer in &layers {
        check_layer(layer, &node.dir().join("layer"))?;
        check_tree(layer, node.dir())?;
    }
    ensure!(!layers.is_empty(), "there is no layer to check");
    println!("{} trees checked", layers.len());
    Ok(())
}

/// A daemon whose layers get dm-verity trees, for a profile that nobody here uses: plans of the others need no
/// device-mapper, which this machine's kernel may lack.
fn with_trees() -> DaemonOptions {
    let settings = "[profiles.nexuserofs-trees]\nverity = 'auto'\n".to_owned();
    DaemonOptions { settings: Some(settings), ..DaemonOptions::default() }
}

/// Lets veritysetup check a layer against its sidecar, tell it from a damaged one, and make the same tree.
fn check_tree(layer: &Path, directory: &Path) -> Result<()> {
    let sidecar: Value = serde_json::from_slice(&std::fs::read(layer.with_extension("erofs.dmverity"))?)?;
    let text = |key: &str| sidecar[key].as_str().map(str::to_owned).with_context(|| format!("no {key}"));
    let number = |key: &str| sidecar[key].as_u64().with_context(|| format!("no {key}"));
    let (root, hash_offset) = (text("roothash")?, number("hashoffset")?);
    let verify = |file: &Path| {
        let offset = format!("--hash-offset={hash_offset}");
        Run::new("veritysetup").arg("verify").arg(file).arg(file).arg(&root).arg(offset)
    };
    verify(layer).run()?;
    let copy = directory.join("copy");
    let mut bytes = std::fs::read(layer)?;
    let ours = bytes.clone();
    bytes.truncate(usize::try_from(hash_offset)?);
    std::fs::write(&copy, &bytes)?;
    Run::new("veritysetup")
        .args(["format", "--hash=sha256", "--data-block-size=4096", "--hash-block-size=4096"])
        .arg(format!("--salt={}", text("salt")?))
        .arg(format!("--uuid={}", text("uuid")?))
        .arg(format!("--data-blocks={}", number("data_blocks")?))
        .arg(format!("--hash-offset={hash_offset}"))
        .arg(&copy)
        .arg(&copy)
        .run()?;
    ensure!(std::fs::read(&copy)? == ours, "veritysetup makes another tree of {}", layer.display());
    bytes[5000] ^= 1;
    bytes.extend_from_slice(&ours[bytes.len()..]);
    std::fs::write(&copy, &bytes)?;
    ensure!(verify(&copy).run().is_err(), "veritysetup takes a damaged copy of {}", layer.display());
    std::fs::remove_file(&copy).context("remove the copy")
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
