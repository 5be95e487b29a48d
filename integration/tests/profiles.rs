//! Plans that are filled up with layers that hold nothing, mounted by a real containerd and run by runc.
//!
//! An image without layers has nothing to run: what runs is the test host's own programs, which are mounted into it.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use nexuserofs_integration::bed::{Bed, Needs, Profile};
use nexuserofs_integration::command::Run;
use nexuserofs_integration::harness::{self, Test};
use nexuserofs_integration::images::Image;
use nexuserofs_integration::images::layout::Layout;
use nexuserofs_integration::node::{DaemonOptions, HOST_SNAPSHOTTER, Node, NodeOptions, Pull, SNAPSHOTTER};

const TESTS: &[Test] = &[
    Test { name: "no_layers_in_directories", run: |bed| no_layers(bed, &TEMPLATES, None) },
    Test { name: "no_layers_in_blocks", run: |bed| no_layers(bed, &TEMPLATES, Some(BLOCK)) },
    Test { name: "no_layers_merged", run: |bed| no_layers(bed, &MERGED, None) },
    Test { name: "no_layers_in_the_host_flavour", run: |bed| no_layers(bed, &HOST, None) },
];

/// Size of the writable block.
const BLOCK: &str = "64MiB";

const NAMESPACE: &str = "profiles";

/// A profile under the name of one that the node's containerd knows.
struct Tested {
    /// What the test's directory is called.
    name: &'static str,
    snapshotter: &'static str,
    settings: &'static str,
    /// The kinds of mounts in a plan without a block.
    plan: &'static [&'static str],
}

const TEMPLATES: Tested =
    Tested { name: "templates", snapshotter: SNAPSHOTTER, settings: "", plan: &["erofs", "format/overlay"] };
const MERGED: Tested =
    Tested { name: "merged", settings: "[profiles.nexuserofs]\nlayers = \"merged\"\n", ..TEMPLATES };
const HOST: Tested = Tested { name: "host", snapshotter: HOST_SNAPSHOTTER, settings: "", plan: &["bind"] };

/// What the container sees of the test host, and where.
const MOUNTS: [(&str, &str); 3] = [("/usr", "/usr"), ("/usr/lib", "/lib"), ("/usr/lib64", "/lib64")];

fn main() -> Result<ExitCode> {
    harness::main(Needs { programs: Some(Profile::Debug), ..Needs::default() }, TESTS)
}

fn no_layers(bed: &Bed, tested: &Tested, default_size: Option<&'static str>) -> Result<()> {
    let mode = if default_size.is_some() { "blocks" } else { "directories" };
    let daemon = DaemonOptions {
        default_size,
        settings: Some(tested.settings.to_owned()),
        ..DaemonOptions::default()
    };
    let options = NodeOptions { daemon: Some(daemon), ..NodeOptions::default() };
    let node = Node::start(&bed.place, &format!("{}-{mode}", tested.name), &options)?;
    let image = node.push(&without_layers(&node)?)?;
    node.containerd.pull(NAMESPACE, tested.snapshotter, Pull::Transfer, &image)?;
    let mounts = MOUNTS.map(|(from, to)| format!("type=bind,src={from},dst={to},options=rbind:ro"));
    let program = "echo written > /file; cat /file; stat -c %a /; ls -A /usr/bin/sh";
    let container = [image.as_str(), "one", "/usr/bin/sh", "-c", program];
    let container: Vec<&str> = mounts.iter().flat_map(|mount| ["--mount", mount]).chain(container).collect();
    let printed = node.containerd.run_and_print(NAMESPACE, tested.snapshotter, &container)?;
    ensure!(printed == "written\n755\n/usr/bin/sh\n", "the container printed {printed:?}");
    let plan = node.containerd.connect(NAMESPACE)?.mounts(tested.snapshotter, "one")?;
    let kinds: Vec<&str> = plan.iter().map(|mount| mount.r#type.as_str()).collect();
    let block: &[&str] = if default_size.is_some() { &["ext4"] } else { &[] };
    ensure!(kinds == [block, tested.plan].concat(), "the plan is of {kinds:?}");
    has_written(&node, tested)?;
    node.containerd.ctr(NAMESPACE).args(["containers", "rm", "one"]).run()?;
    node.containerd.remove_image(NAMESPACE, &image)?;
    node.assert_nothing_left()
}

/// What the container wrote is all that is different from nothing.
fn has_written(node: &Node, tested: &Tested) -> Result<()> {
    let ctr = node.containerd.ctr(NAMESPACE);
    let layer = ctr
        .args(["snapshots", "--snapshotter", tested.snapshotter, "diff", "--media-type"])
        .args(["application/vnd.oci.image.layer.v1.tar+gzip", "one"])
        .bytes()?;
    let file = node.dir().join("diff.tar.gz");
    fs::write(&file, layer)?;
    let listed = Run::new("tar").args(["--list", "--gzip", "--file"]).arg(&file).output()?;
    let paths: Vec<&str> = listed.lines().map(|path| path.trim_start_matches("./")).collect();
    ensure!(paths.contains(&"file"), "the diff lacks what was written: {paths:?}");
    let whiteouts: Vec<_> = paths.iter().filter(|path| path.contains(".wh.")).collect();
    ensure!(whiteouts.is_empty(), "the diff removes what never was: {whiteouts:?}");
    Ok(())
}

/// An image of no layers.
fn without_layers(node: &Node) -> Result<Image> {
    let layout = node.dir().join("without-layers");
    fs::create_dir(&layout).context("make a directory for the image")?;
    Layout::create(&layout)?.finish()?;
    Ok(Image { name: "without-layers", layout })
}
