//! Layer caches on real containerd: filled by the operator's tool, used by a daemon that never had the image.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use nexuserofs_integration::bed::{Bed, Needs, Profile};
use nexuserofs_integration::command::Run;
use nexuserofs_integration::harness::{self, Test};
use nexuserofs_integration::host::tools::CONTAINERD_2_4;
use nexuserofs_integration::images::Image;
use nexuserofs_integration::images::Layer;
use nexuserofs_integration::node::{DaemonOptions, Node, NodeOptions, Pull, Release, SNAPSHOTTER};

const TESTS: &[Test] = &[
    Test { name: "what_one_node_exports_another_takes", run: exported },
    Test { name: "what_is_damaged_in_a_cache_is_built_instead", run: damaged },
    Test { name: "layers_of_a_trusted_cache_are_not_fetched", run: trusted },
    Test { name: "no_layer_of_a_trusted_cache_is_fetched_by_2.4", run: staged },
    Test { name: "a_cache_without_the_upper_layers_is_of_use_to_2.4", run: partly_staged },
];

const NAMESPACE: &str = "default";

fn main() -> Result<ExitCode> {
    let extras = &[CONTAINERD_2_4];
    harness::main(Needs { programs: Some(Profile::Debug), extras, ..Needs::default() }, TESTS)
}

fn start(bed: &Bed, name: &str, settings: Option<String>) -> Result<Node> {
    start_with(bed, name, Release::default(), settings)
}

fn start_with(bed: &Bed, name: &str, release: Release, settings: Option<String>) -> Result<Node> {
    let daemon = Some(DaemonOptions { settings, ..DaemonOptions::default() });
    Node::start(&bed.place, name, &NodeOptions { daemon, release, ..NodeOptions::default() })
}

/// The operator's tool.
fn tool(bed: &Bed) -> Run {
    Run::new(bed.place.programs.join("nexuserofs")).arg("cache")
}

/// A directory for a cache, outside of any node.
fn directory(bed: &Bed, name: &str) -> Result<PathBuf> {
    let directory = bed.place.scratch.join(name);
    fs::create_dir(&directory)?;
    Ok(directory)
}

fn settings(cache: &Path, trusted: bool) -> Option<String> {
    let cache = cache.display();
    Some(format!("layer_content_caches = [\"{cache}\"]\ntrust_layer_content_caches = {trusted}\n"))
}

fn pull_and_run(node: &Node, image: &str) -> Result<()> {
    node.containerd.pull(NAMESPACE, SNAPSHOTTER, Pull::Transfer, image)?;
    let command = ["/usr/bin/python3", "-c", "print(open('/etc/hostname').read())"];
    let printed = node.containerd.run(NAMESPACE, SNAPSHOTTER, image, "one", &command)?;
    ensure!(printed.trim() == "demo", "the container printed {printed:?}");
    Ok(())
}

/// How many layers the daemon's log says became what.
fn count(node: &mut Node, message: &str) -> Result<usize> {
    Ok(node.daemon()?.log()?.matches(&format!("\"message\":\"{message}\"")).count())
}

fn exported(bed: &Bed) -> Result<()> {
    let cache = directory(bed, "cache-exported")?;
    let layers = bed.images.demo.layers()?.len();
    let mut first = start(bed, "exporting", None)?;
    let image = first.push(&bed.images.demo)?;
    pull_and_run(&first, &image)?;
    let root = first.daemon()?.root().to_owned();
    tool(bed).arg("export").arg(&cache).arg("--root").arg(root).run()?;
    tool(bed).arg("verify").arg(&cache).run()?;
    drop(first);

    let mut second = start(bed, "taking", settings(&cache, false))?;
    let image = second.push(&bed.images.demo)?;
    pull_and_run(&second, &image)?;
    let taken = count(&mut second, "took a layer from a cache")?;
    ensure!(taken == layers, "{taken} of {layers} layers were taken");
    ensure!(count(&mut second, "built a layer")? == 0, "a layer was built");
    for layer in second.daemon()?.layers()? {
        Run::new("fsck.erofs").arg("--extract").arg(layer).run()?;
    }
    Ok(())
}

/// A bit in the middle of the data of each file, where no superblock shows it.
fn damaged(bed: &Bed) -> Result<()> {
    let cache = directory(bed, "cache-damaged")?;
    tool(bed).arg("add").arg(&cache).arg(&bed.images.demo.layout).run()?;
    let layers = bed.images.demo.layers()?;
    for layer in &layers {
        let path = file_of(&cache, layer)?;
        let mut bytes = fs::read(&path)?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes)?;
    }
    let mut node = start(bed, "damaged-cache", settings(&cache, false))?;
    let image = node.push(&bed.images.demo)?;
    pull_and_run(&node, &image)?;
    ensure!(count(&mut node, "took a layer from a cache")? == 0, "a damaged file was taken");
    let built = count(&mut node, "built a layer")?;
    ensure!(built == layers.len(), "{built} of {} layers were built", layers.len());
    Ok(())
}

/// containerd 2.3 is told by ALREADY_EXISTS, which works for the lowest layer: its blob is never fetched.
fn trusted(bed: &Bed) -> Result<()> {
    let cache = directory(bed, "cache-trusted")?;
    tool(bed).arg("add").arg(&cache).arg(&bed.images.demo.layout).run()?;
    let mut node = start(bed, "trusting", settings(&cache, true))?;
    let image = node.push(&bed.images.demo)?;
    pull_and_run(&node, &image)?;
    let lowest = bed.images.demo.layers()?.into_iter().next().context("the image has no layer")?;
    let applied =
        node.daemon()?.calls()?.iter().any(|call| call.method == "Apply" && call.key == lowest.blob.digest);
    ensure!(!applied, "the lowest layer was unpacked");
    let held = node.containerd.ctr(NAMESPACE).args(["content", "ls", "--quiet"]).output()?;
    ensure!(!held.contains(&lowest.blob.digest), "the blob of the lowest layer was fetched:\n{held}");
    node.containerd.remove_image(NAMESPACE, &image)?;
    let left = node.containerd.snapshots(NAMESPACE, SNAPSHOTTER)?;
    ensure!(left.is_empty(), "containerd has snapshots left: {left:?}");
    node.assert_nothing_left()
}

/// containerd 2.4 is told by a read-only plan, for each layer, whatever the order in which it asks.
fn staged(bed: &Bed) -> Result<()> {
    let cache = directory(bed, "cache-staged")?;
    tool(bed).arg("add").arg(&cache).arg(&bed.images.demo.layout).run()?;
    let mut node = start_with(bed, "staging-2.4", Release::V2_4, settings(&cache, true))?;
    let image = node.push(&bed.images.demo)?;
    pull_and_run(&node, &image)?;
    let fetched = fetched(&node, &bed.images.demo)?;
    ensure!(fetched.is_empty(), "these layers were fetched: {fetched:?}");
    let applied = node.daemon()?.calls()?.iter().any(|call| call.method == "Apply");
    ensure!(!applied, "a layer was unpacked");
    node.containerd.remove_image(NAMESPACE, &image)?;
    let left = node.containerd.snapshots(NAMESPACE, SNAPSHOTTER)?;
    ensure!(left.is_empty(), "containerd has snapshots left: {left:?}");
    node.assert_nothing_left()
}

/// What the cache lacks is fetched and unpacked as usual. From the first such layer on containerd fetches all
/// (`core/unpack/unpacker.go`), but those that the cache has are not unpacked.
fn partly_staged(bed: &Bed) -> Result<()> {
    let cache = directory(bed, "cache-partly")?;
    tool(bed).arg("add").arg(&cache).arg(&bed.images.demo.layout).run()?;
    let layers = bed.images.demo.layers()?;
    let missing: Vec<&Layer> = layers.iter().skip(1).step_by(2).collect();
    for layer in &missing {
        fs::remove_file(file_of(&cache, layer)?)?;
    }
    let mut node = start_with(bed, "partly-2.4", Release::V2_4, settings(&cache, true))?;
    let image = node.push(&bed.images.demo)?;
    pull_and_run(&node, &image)?;
    let expected: Vec<&str> = layers.iter().skip(1).map(|layer| layer.blob.digest.as_str()).collect();
    let fetched = fetched(&node, &bed.images.demo)?;
    ensure!(fetched == expected, "{fetched:?} were fetched instead of {expected:?}");
    let built = count(&mut node, "built a layer")?;
    ensure!(built == missing.len(), "{built} layers were built, not {}", missing.len());
    node.containerd.remove_image(NAMESPACE, &image)?;
    node.assert_nothing_left()
}

/// The image's layers whose blobs containerd has, the lowest first.
fn fetched(node: &Node, image: &Image) -> Result<Vec<String>> {
    let held = node.containerd.ctr(NAMESPACE).args(["content", "ls", "--quiet"]).output()?;
    let digests = image.layers()?.into_iter().map(|layer| layer.blob.digest);
    Ok(digests.filter(|digest| held.contains(digest.as_str())).collect())
}

fn file_of(cache: &Path, layer: &Layer) -> Result<PathBuf> {
    let hex = layer.diff_id.strip_prefix("sha256:").context("not a SHA-256 digest")?;
    let shelf = hex.get(..2).context("a digest of one digit")?;
    Ok(cache.join("sha256").join(shelf).join(format!("{hex}.erofs")))
}
