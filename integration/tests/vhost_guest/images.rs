//! Images of 1 to 128 layers: as one merged disk, and as a disk with a partition for each layer.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nexuserofs_integration::guest::qemu::Next;
use nexuserofs_integration::guest::scenario::{Guest, Machine, Scenario};
use nexuserofs_integration::stage::Place;
use nexuserofs_integration::tree;
use nexuserofs_integration::vhost::driver::{Driver, Shape};
use nexuserofs_integration::vhost::exporter::Exporter;
use nexuserofs_integration::vhost::ours::{self, Disk, IMAGE, Verify};
use rustix::mount::MountFlags;

use crate::mounted::Mounted;
use crate::{layers, merged_chain};

pub(crate) const SCENARIO: Scenario =
    Scenario { name: "disks_of_1_to_128_layers_are_what_the_overlay_is", on_machine, inside };

/// Numbers of layers. Every image is the beginning of the longest.
const COUNTS: &[usize] = &[1, 2, 9, 40, 128];

fn on_machine(machine: &Machine) -> Result<()> {
    let directory = machine.directory("images")?;
    let layers = layers::make(&directory, COUNTS.iter().copied().max().unwrap_or_default())?;
    let mut exporters = Vec::new();
    for count in COUNTS {
        exporters.extend(exports(machine, &directory, &layers[..*count])?);
    }
    let sockets: Vec<PathBuf> = exporters.iter().map(|exporter| exporter.socket().to_owned()).collect();
    // All have one serial number: the guest tells them apart by their sizes.
    let sizes = sockets.iter().map(|socket| size(socket)).collect::<Result<Vec<_>>>()?;
    ensure!(sizes.iter().collect::<BTreeSet<_>>().len() == sizes.len(), "two disks have one size: {sizes:?}");
    let sizes: Vec<String> = sizes.iter().map(u64::to_string).collect();
    let arguments: Vec<&str> =
        std::iter::once(SCENARIO.name).chain(sizes.iter().map(String::as_str)).collect();
    let guest = Guest {
        directory: &directory,
        arguments: &arguments,
        disks: &[],
        exports: &sockets,
        memory: 1024,
        deadline: Duration::from_secs(420),
    };
    machine.boot(guest, |_| Next::GoOn)?;
    Ok(fs::remove_dir_all(directory)?)
}

/// The merged disk and the one with partitions.
fn exports(machine: &Machine, directory: &Path, layers: &[PathBuf]) -> Result<[Exporter; 2]> {
    let count = layers.len();
    let metadata = directory.join(format!("{count}.fsmeta"));
    merged_chain::merge(&metadata, layers.iter().map(|path| (path.clone(), None)))?;
    let export = |name: String, disk: &Disk<'_>| {
        ours::export(&machine.programs, disk, &directory.join(name), Verify::No)
    };
    let separate = match layers {
        [only] => Disk::File(only),
        _ => Disk::Partitions(layers),
    };
    Ok([
        export(format!("merged-{count}"), &Disk::Layers { metadata: &metadata, layers })?,
        export(format!("separate-{count}"), &separate)?,
    ])
}

fn size(socket: &Path) -> Result<u64> {
    Driver::connect(socket, Shape { queue_size: 16, depth: 1, request: 4096 })?.capacity()
}

fn inside(_: &Place) -> Result<()> {
    let sizes = std::env::args().skip(2).map(|size| Ok(size.parse()?)).collect::<Result<Vec<u64>>>()?;
    ensure!(sizes.len() == 2 * COUNTS.len(), "{} sizes were told", sizes.len());
    for (count, sizes) in COUNTS.iter().zip(sizes.chunks(2)) {
        let [merged, separate] = [sizes[0], sizes[1]].map(device);
        compare(*count, &merged?, &separate?).with_context(|| format!("{count} layers"))?;
    }
    Ok(())
}

/// The exported disk with this size.
fn device(bytes: u64) -> Result<PathBuf> {
    for entry in fs::read_dir("/sys/block")? {
        let entry = entry?;
        let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        let sectors: u64 = read("size").trim().parse()?;
        if read("serial").trim() == IMAGE && sectors * 512 == bytes {
            return Ok(Path::new("/dev").join(entry.file_name()));
        }
    }
    anyhow::bail!("the guest has no exported disk of {bytes} bytes")
}

/// The merged disk is, path by path, the overlay of the separate layers.
fn compare(count: usize, merged: &Path, separate: &Path) -> Result<()> {
    let erofs = |device: &Path| Mounted::device(device, "erofs", MountFlags::RDONLY);
    // The newest layer is the first partition.
    let layer = |number: usize| match count {
        1 => erofs(separate),
        _ => erofs(&PathBuf::from(format!("{}{}", separate.display(), number + 1))),
    };
    let merged = erofs(merged)?;
    let layers = (0..count).map(layer).collect::<Result<Vec<_>>>()?;
    let overlay = Mounted::overlay(&layers)?;
    let (found, expected) = (tree::read(merged.path())?, tree::read(overlay.path())?);
    ensure!(expected.len() > 2 * count, "the overlay has {} entries only", expected.len());
    let differences = tree::differences(&expected, &found, 10);
    ensure!(differences.is_empty(), "overlay and merged disk differ: {}", differences.join("; "));
    Ok(())
}
