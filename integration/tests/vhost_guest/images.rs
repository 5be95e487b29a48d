//! Images of 1 to 128 layers: as one merged disk, and as a disk with a partition for each layer.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nexuserofs_integration::guest::init;
use nexuserofs_integration::guest::qemu::Next;
use nexuserofs_integration::guest::scenario::{Guest, Machine, Scenario};
use nexuserofs_integration::stage::Place;
use nexuserofs_integration::tree;
use nexuserofs_integration::vhost::exporter::Exporter;
use nexuserofs_integration::vhost::ours::{self, Disk, Verify};
use rustix::mount::MountFlags;

use crate::layers;
use crate::mounted::Mounted;

pub(crate) const SCENARIO: Scenario =
    Scenario { name: "disks_of_1_to_128_layers_are_what_the_overlay_is", on_machine, inside };

/// Numbers of layers. Every image is the beginning of the longest.
const COUNTS: &[usize] = &[1, 2, 9, 40, 128];

fn merged_serial(count: usize) -> String {
    format!("merged-{count}")
}

fn partitions_serial(count: usize) -> String {
    format!("partitions-{count}")
}

fn on_machine(machine: &Machine) -> Result<()> {
    let directory = machine.directory("images")?;
    let layers = layers::make(&directory, COUNTS.iter().copied().max().unwrap_or_default())?;
    let mut exporters = Vec::new();
    for count in COUNTS {
        exporters.extend(exports(machine, &directory, &layers[..*count])?);
    }
    let sockets: Vec<PathBuf> = exporters.iter().map(|exporter| exporter.socket().to_owned()).collect();
    let guest = Guest {
        directory: &directory,
        arguments: &[SCENARIO.name],
        disks: &[],
        exports: &sockets,
        memory: 1024,
        deadline: Duration::from_secs(420),
    };
    machine.boot(guest, |_| Next::GoOn)?;
    Ok(fs::remove_dir_all(directory)?)
}

fn exports(machine: &Machine, directory: &Path, layers: &[PathBuf]) -> Result<[Exporter; 2]> {
    let count = layers.len();
    let metadata = directory.join(format!("{count}.fsmeta"));
    layers::merge(&metadata, layers)?;
    let export = |serial: String, disk: &Disk<'_>| {
        let socket = directory.join(format!("{serial}.sock"));
        ours::export_as(&machine.programs, &serial, disk, &socket, Verify::No)
    };
    Ok([
        export(merged_serial(count), &Disk::Layers { metadata: &metadata, layers })?,
        export(partitions_serial(count), &Disk::Partitions(layers))?,
    ])
}

fn inside(_: &Place) -> Result<()> {
    COUNTS.iter().try_for_each(|count| compare(*count).with_context(|| format!("{count} layers")))
}

/// The merged disk is, path by path, the overlay of the partitions.
fn compare(count: usize) -> Result<()> {
    let merged = Mounted::device(&init::device(&merged_serial(count))?, "erofs", MountFlags::RDONLY)?;
    let disk = init::device(&partitions_serial(count))?;
    // The newest layer is the first partition.
    let partition = |number: usize| {
        let device = PathBuf::from(format!("{}{}", disk.display(), number + 1));
        Mounted::device(&device, "erofs", MountFlags::RDONLY)
    };
    let partitions = (0..count).map(partition).collect::<Result<Vec<_>>>()?;
    let overlay = Mounted::overlay(&partitions)?;
    let (found, expected) = (tree::read(merged.path())?, tree::read(overlay.path())?);
    ensure!(expected.len() > 2 * count, "the overlay has {} entries only", expected.len());
    let differences = tree::differences(&expected, &found, 10);
    ensure!(differences.is_empty(), "overlay and merged disk differ: {}", differences.join("; "));
    Ok(())
}
