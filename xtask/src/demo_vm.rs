//! `cargo xtask demo --vm`: from a registry into a virtual machine that trusts a signed list, and back into a layer.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result};
use nexuserofs_integration::bed::{self, Bed, Needs, Profile};
use nexuserofs_integration::guest::image_init::{Ended, Machine};
use nexuserofs_integration::guest::passed_through::{
    self as way, MERGED, RELEASE, SEPARATE, Setup, Trust, WRITTEN,
};
use nexuserofs_integration::guest::snapshot::Snapshot;
use nexuserofs_integration::progress::Steps;

use crate::bars::{self, Bars};

pub(crate) fn run() -> Result<ExitCode> {
    let bars = Bars::new(10);
    let steps = Steps::new(&bars);
    let needs = Needs { programs: Some(Profile::Debug), guests: true, ..Needs::default() };
    bed::run(needs, &steps, bars::summary, |bed| demonstrate(&bed).map(|()| ExitCode::SUCCESS))
}

fn demonstrate(bed: &Bed) -> Result<()> {
    pass_through(bed, "a disk for each layer", SEPARATE)?;
    pass_through(bed, "one disk for the whole image", MERGED)?;
    println!("\nEverything is stopped and removed.");
    Ok(())
}

/// Pulls, boots a guest with what containerd would mount, and shows what the guest left.
fn pass_through(bed: &Bed, title: &str, setup: Setup<'_>) -> Result<()> {
    println!("\n== {title}");
    let bars = Bars::new(4);
    let steps = Steps::new(&bars);
    let node = bars::timed(&steps, "pull of the demo image through containerd", || way::pulled(bed, setup))?;
    let directory = node.dir().join("guest");
    fs::create_dir(&directory).with_context(|| format!("make {}", directory.display()))?;
    let trust = bars::timed(&steps, "manifest from the image alone, signed with a new key", || {
        Trust::of_demo_image(bed, &directory)
    })?;
    let machine = Machine::inside(&bed.place)?;
    let snapshot = Snapshot::prepare(&node.containerd, setup.name, &bed.images.demo)?;
    let boot = || way::boot(&machine, &snapshot, &trust, &directory);
    let ended = bars::timed(&steps, "a guest in QEMU, emulated: from power on to power off", boot)?;
    drop(bars);
    way::ensure_ran(&ended)?;
    tell_trust(&trust);
    tell_guest(&snapshot, &ended)?;
    tell_host(&snapshot)?;
    snapshot.remove()?;
    node.assert_nothing_mounted()
}

fn tell_trust(trust: &Trust) {
    let manifest = &trust.signed.manifest;
    println!("the signer lists, of the image alone, {} layers:", manifest.layers().len());
    for layer in manifest.layers() {
        let fields = layer.fields();
        println!(
            "  {:>6} blocks, root {}",
            fields.verity.fields().data_blocks,
            fields.verity.fields().root_digest
        );
    }
    if let Some(merged) = &manifest.fields().merged {
        println!("and all of them as one device, root {}", merged.fields().verity.fields().root_digest);
    }
    println!("as version {} of {}, image hash {}", RELEASE.version, RELEASE.name, manifest.image_hash());
    println!("what the guest trusts is a policy in its initramfs:\n  {}", trust.policy.trim_end());
}

fn tell_guest(snapshot: &Snapshot<'_>, ended: &Ended) -> Result<()> {
    println!("the guest's disks are the snapshot's files:");
    for disk in snapshot.disks()? {
        let access = if disk.writable { "read and written" } else { "read only" };
        println!("  {:<6} {} ({access})", disk.serial, disk.file.display());
    }
    println!(
        "nexuserofs-guest checked the list, made verity devices and an overlay, and ran a command of the image, which says:"
    );
    ended.printed.iter().for_each(|line| println!("  {line}"));
    Ok(())
}

fn tell_host(snapshot: &Snapshot<'_>) -> Result<()> {
    println!(
        "the guest is off; in the block lies /upper/{WRITTEN}:\n  {}",
        snapshot.written(WRITTEN)?.trim_end()
    );
    println!("and `ctr snapshots diff` makes a layer of the snapshot with these files:");
    way::ensure_difference(snapshot)?.iter().for_each(|name| println!("  {name}"));
    Ok(())
}
