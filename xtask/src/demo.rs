//! `cargo xtask demo`: from a registry to a running container, with our layers and with containerd's own.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use nexuserofs_integration::bed::{self, Bed, Needs, Profile};
use nexuserofs_integration::node::containerd::ImageMount;
use nexuserofs_integration::node::{BUILTIN_EROFS, DaemonOptions, Node, NodeOptions, Pull, SNAPSHOTTER};
use nexuserofs_integration::progress::Steps;

use crate::bars::{self, Bars};

/// containerd namespace of the demo.
const NAMESPACE: &str = "demo";
/// Size of the writable block in block mode.
const BLOCK: &str = "1GiB";
/// What the container does: it writes a file, reads it back, and tells where its root comes from.
const PROGRAM: &str = "import os\n\
    open('/written', 'w').write('a file in the writable layer')\n\
    print('  read back:', open('/written').read())\n\
    print('  /srv/app:', sorted(os.listdir('/srv/app')))\n\
    root = [line.split() for line in open('/proc/mounts') if line.split()[1] == '/'][-1]\n\
    print('  / is', root[2], 'with', len(root[3].split('lowerdir=')[1].split(',')[0].split(':')), 'lower directories')\n";

pub(crate) fn run() -> Result<ExitCode> {
    let bars = Bars::new(7);
    let steps = Steps::new(&bars);
    let needs = Needs { programs: Some(Profile::Release), ..Needs::default() };
    bed::run(needs, &steps, bars::summary, |bed| demonstrate(&bed).map(|()| ExitCode::SUCCESS))
}

fn demonstrate(bed: &Bed) -> Result<()> {
    println!("\nInside the test host:\n{}", indented(&bed.place.versions));
    let ours = unpack_and_run(bed, "directory mode", DaemonOptions::default())?;
    unpack_and_run(
        bed,
        "block mode",
        DaemonOptions { default_size: Some(BLOCK), ..DaemonOptions::default() },
    )?;
    let peer = unpack_with_peer(bed)?;
    println!("\nTime to unpack the image, fetched before:");
    println!("  {SNAPSHOTTER:<12} {:.2} s", ours.as_secs_f64());
    println!("  {BUILTIN_EROFS:<12} {:.2} s (containerd's own, default options)", peer.as_secs_f64());
    println!("\nEverything is stopped and removed.");
    Ok(())
}

/// Pulls with our snapshotter, runs a container, shows what came of it, and takes it all down.
fn unpack_and_run(bed: &Bed, title: &str, options: DaemonOptions) -> Result<Duration> {
    println!("\n== {SNAPSHOTTER}, {title}");
    let options = NodeOptions { daemon: Some(options), ..NodeOptions::default() };
    let mut node = Node::start(&bed.place, &title.replace(' ', "-"), &options)?;
    let image = node.push(&bed.images.demo)?;
    println!("registry, containerd and daemon run; pushed {image}");
    node.containerd.fetch(NAMESPACE, &image)?;
    let took = timed(|| node.containerd.pull(NAMESPACE, SNAPSHOTTER, Pull::Transfer, &image))?;
    println!("unpacked in {:.2} s:", took.as_secs_f64());
    for layer in node.daemon()?.layers()? {
        println!("  {} {:>6.1} MB", name_of_layer(&layer), megabytes(&layer)?);
    }
    println!("what containerd mounts for a container:\n{}", plan(&node, &image)?);
    let begun = Instant::now();
    let printed =
        node.containerd.run(NAMESPACE, SNAPSHOTTER, &image, "one", &["/usr/bin/python3", "-c", PROGRAM])?;
    println!(
        "ran a container with runc in {:.2} s, which says:\n{}",
        begun.elapsed().as_secs_f64(),
        printed.trim_end()
    );
    node.containerd.remove_image(NAMESPACE, &image)?;
    node.assert_nothing_mounted()?;
    println!("removed the image: {} layers left, no mount, no loop device", node.daemon()?.layers()?.len());
    Ok(took)
}

/// The mount list of a new snapshot, which containerd can mount.
fn plan(node: &Node, image: &str) -> Result<String> {
    let target = node.dir().join("mounted");
    let mounted = node.containerd.mount(ImageMount {
        namespace: NAMESPACE,
        snapshotter: SNAPSHOTTER,
        reference: image,
        target: &target,
        writable: true,
    })?;
    let lines: Vec<String> = mounted.plan.iter().map(|entry| format!("  {entry}")).collect();
    mounted.undo()?;
    Ok(lines.join("\n"))
}

fn unpack_with_peer(bed: &Bed) -> Result<Duration> {
    let node = Node::start(&bed.place, "peer", &NodeOptions::default())?;
    let image = node.push(&bed.images.demo)?;
    node.containerd.fetch(NAMESPACE, &image)?;
    timed(|| node.containerd.pull(NAMESPACE, BUILTIN_EROFS, Pull::Transfer, &image))
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed())
}

/// The directory of a layer is named after its content.
fn name_of_layer(file: &Path) -> String {
    file.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned()
}

#[expect(clippy::cast_precision_loss, reason = "a size that people read, to one decimal")]
fn megabytes(file: &Path) -> Result<f64> {
    Ok(fs::metadata(file)?.len() as f64 / 1e6)
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
