//! One image has one image hash: computed by the tool in any build, with one processor and with eight, on this machine and
//! in a guest with another kernel, and listed of the layers that the daemon made for containerd.
//!
//! How many layers are unpacked at once follows from the processors, as far as containerd hands them on (four at once, on these
//! nodes); each takes four or five threads. The tool takes one layer after the other, on as many. The guest has eight
//! processors, emulated.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::{self, available_parallelism};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nexuserofs::layer::LayerRecord;
use nexuserofs::trust;
use nexuserofs_guest::canonical::Canonical as _;
use nexuserofs_guest::manifest::{Fields, Manifest, SignedManifest};
use nexuserofs_integration::bed::Profile;
use nexuserofs_integration::cargo;
use nexuserofs_integration::command::Run;
use nexuserofs_integration::guest::Workshop;
use nexuserofs_integration::guest::disk::Disk;
use nexuserofs_integration::guest::harness::{self, Needs, Test, image};
use nexuserofs_integration::guest::init::PAYLOAD;
use nexuserofs_integration::images::layout::{Encoding, Layout, Source};
use nexuserofs_integration::images::{Image, shell};
use nexuserofs_integration::node::{DaemonOptions, Node, NodeOptions, Pull, SNAPSHOTTER};
use nexuserofs_integration::stage::Place;
use rustix::thread::{CpuSet, sched_setaffinity};

const TESTS: &[Test] = &[
    Test { name: BUILDS_AGREE, run: |_| builds_agree() },
    Test { name: "this_machine_and_a_guest_agree", run: |place| computed_here(place, "all") },
    Test { name: "one_processor_and_eight_agree", run: |place| on_one(|| computed_here(place, "one")) },
    Test { name: "the_daemon_and_the_tool_agree", run: |place| listed_here(place, "eight") },
    Test { name: "the_daemon_agrees_on_one_processor", run: |place| on_one(|| listed_here(place, "one")) },
];

const BUILDS_AGREE: &str = "debug_and_release_builds_agree";

/// Set if nothing is to be built a second time, optimised, which takes minutes.
const DEBUG_ONLY: &str = "NEXUSEROFS_DEBUG_ONLY";

/// Manifests that were computed on the machine, in the payload.
const DEBUG: &str = "debug.json";
const RELEASE: &str = "release.json";

/// Processors of the guest.
const EIGHT: u32 = 8;

/// The image, and how many lines of eight bytes each of its own layers has: as many as take a while.
const IMAGE: &str = "hashed";
const LINES: usize = 1 << 19;

/// The tool as it was built for debugging, in the payload.
const TOOL: &str = "tool";

fn main() -> Result<ExitCode> {
    let needs = Needs {
        programs: Some(Profile::Debug),
        disks: compute,
        processors: EIGHT,
        deadline: Duration::from_secs(900),
        ..Needs::default()
    };
    harness::main(needs, TESTS)
}

/// Computes on the machine, and carries image, tool and results into the guest.
fn compute(workshop: &Workshop<'_>) -> Result<Vec<Disk>> {
    let Workshop { cache, host, steps, payload, .. } = workshop;
    let shell = steps.run("image shell", || shell::make(cache, &host.root))?;
    let image = with_more_layers(&shell, workshop.directory)?;
    workshop.carry(&image)?;
    let built = |profile, what: &str| -> Result<PathBuf> {
        Ok(steps.run(what, || cargo::build(profile))?.join("nexuserofs"))
    };
    let debug = built(Profile::Debug, "the tool, for debugging")?;
    fs::copy(&debug, payload.join(TOOL)).with_context(|| format!("copy {}", debug.display()))?;
    let mut runs = vec![(DEBUG, Run::new(&debug))];
    if std::env::var_os(DEBUG_ONLY).is_none() {
        runs.push((RELEASE, Run::new(built(Profile::Release, "the tool, optimised")?)));
    }
    for (name, run) in runs {
        fs::write(payload.join(name), manifest_of(run, &image)?)?;
    }
    Ok(Vec::new())
}

/// An image of as many layers as there are processors, and a few more.
fn with_more_layers(base: &Image, directory: &Path) -> Result<Image> {
    let image = Image { name: IMAGE, layout: directory.join(IMAGE) };
    let mut layout = Layout::on(base, &image.layout)?;
    for index in 0..EIGHT {
        let tree = directory.join(format!("tree-{index}"));
        fs::create_dir(&tree)?;
        let line = format!("layer {index}\n");
        fs::write(tree.join(format!("file-{index}")), line.repeat(LINES))?;
        layout.add(Source::Directory(&tree), Encoding::Gzip)?;
    }
    layout.finish()?;
    Ok(image)
}

fn manifest_of(tool: Run, image: &Image) -> Result<Vec<u8>> {
    tool.args(["manifest", "compute"]).arg(&image.layout).bytes()
}

fn carried(name: &str) -> Result<Manifest> {
    read(&fs::read(Path::new(PAYLOAD).join(name))?)
}

fn read(text: &[u8]) -> Result<Manifest> {
    Ok(SignedManifest::from_canonical(text.trim_ascii_end())?.manifest)
}

fn builds_agree() -> Result<()> {
    if !Path::new(PAYLOAD).join(RELEASE).exists() {
        println!("\nSKIPPED {BUILDS_AGREE}: {DEBUG_ONLY} is set, so there is no optimised build");
        return Ok(());
    }
    agree([DEBUG, RELEASE])
}

fn agree([one, other]: [&str; 2]) -> Result<()> {
    same(&carried(one)?, &carried(other)?)
}

fn same(one: &Manifest, other: &Manifest) -> Result<()> {
    ensure!(one.image_hash() == other.image_hash(), "{one:?}\nis another image than\n{other:?}");
    Ok(())
}

/// Does something on one of the guest's eight processors, and what it starts too.
fn on_one(work: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    let alone = || {
        let mut first = CpuSet::new();
        first.set(0);
        sched_setaffinity(None, &first)?;
        ensure!(available_parallelism()?.get() == 1, "there are more processors than one");
        work()
    };
    let processors = available_parallelism()?.get();
    ensure!(processors == EIGHT as usize, "the guest has {processors} processors");
    // On a thread of its own, since what a thread is bound to cannot be undone in general.
    thread::scope(|scope| scope.spawn(alone).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

fn computed_here(place: &Place, name: &str) -> Result<()> {
    let temporary = place.scratch.join(format!("computed-{name}"));
    fs::create_dir(&temporary)?;
    let tool = Run::new(Path::new(PAYLOAD).join(TOOL)).env("TMPDIR", &temporary);
    same(&carried(DEBUG)?, &read(&manifest_of(tool, &image(IMAGE))?)?)
}

/// The layers of which the daemon keeps records, in the image's order, as a manifest of the same image.
fn listed_here(place: &Place, name: &str) -> Result<()> {
    let settings = Some("verity = \"require\"\n".to_owned());
    let daemon = DaemonOptions { settings, ..DaemonOptions::default() };
    let options = NodeOptions { daemon: Some(daemon), ..NodeOptions::default() };
    let mut node = Node::start(place, name, &options)?;
    let image = image(IMAGE);
    let reference = node.push(&image)?;
    node.containerd.pull("default", SNAPSHOTTER, Pull::Transfer, &reference)?;
    let mut records = BTreeMap::new();
    for layer in node.daemon()?.layers()? {
        let record = fs::read(layer.with_file_name("layer.json"))?;
        let record: LayerRecord = serde_json::from_slice(&record)?;
        let diff_id = record.native_diff_id().context("a layer that was not made of a tar")?;
        records.insert(diff_id.to_string(), record);
    }
    let in_order = image.layers()?.into_iter().map(|layer| {
        let record = records.remove(&layer.diff_id);
        record.with_context(|| format!("the daemon has no layer of {}", layer.diff_id))
    });
    let in_order: Vec<LayerRecord> = in_order.collect::<Result<_>>()?;
    let computed = carried(DEBUG)?;
    let Fields { image, platform, .. } = computed.fields().clone();
    same(&computed, &trust::list(&in_order, image, platform)?)
}
