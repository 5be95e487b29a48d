//! Images as block devices, seen by a guest: Linux 6.12 mounts them, and finds partitions by name. QEMU gives it one disk
//! for each.

// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../tests/helpers/merged_chain.rs"]
mod merged_chain;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nexuserofs::expose::device::{self, Carrier, Chain, Form, Layout};
use nexuserofs::image::gpt::Style;
use nexuserofs::layer::{HashTree, written};
use nexuserofs::store::staging::StagingArea;
use nexuserofs_integration::guest::disk::Disk;
use nexuserofs_integration::guest::harness::{self, Needs, Test, Workshop};
use nexuserofs_integration::guest::init;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

const TESTS: &[Test] = &[
    Test { name: "merged_disks_are_one_file_system", run: |_| all(Kind::Merged, merged_disk) },
    Test { name: "a_flat_file_is_the_same_file_system", run: |_| all(Kind::Flat, merged_disk) },
    Test { name: "partitions_have_names_and_hold_the_layers", run: |_| all(Kind::Kata, partitions) },
    Test { name: "so_do_those_in_nerdbox_style", run: |_| all(Kind::Nerdbox, partitions) },
];

/// What the guest gets a disk of, besides the number of layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Merged,
    Flat,
    Kata,
    Nerdbox,
}

/// The disks. Every chain is the beginning of the longest.
const DISKS: &[(Kind, usize)] = &[
    (Kind::Merged, 1),
    (Kind::Merged, 2),
    (Kind::Merged, 9),
    (Kind::Merged, 40),
    (Kind::Merged, 128),
    (Kind::Flat, 9),
    (Kind::Kata, 3),
    (Kind::Kata, 40),
    (Kind::Kata, 128),
    (Kind::Nerdbox, 9),
];
const LONGEST: usize = 128;

/// The layer whose file is made longer than what 32 bits count; what is behind its image would be a verity tree.
const LARGE: usize = 1;
const LARGE_BYTES: u64 = (3 << 30) + 4096;

impl Kind {
    const fn form(self) -> Form {
        let (layout, carrier) = match self {
            Self::Merged => (Layout::Merged, Carrier::Vmdk),
            Self::Flat => (Layout::Merged, Carrier::Flat),
            Self::Kata => (Layout::Partitions(Style::Kata), Carrier::Vmdk),
            Self::Nerdbox => (Layout::Partitions(Style::Nerdbox), Carrier::Vmdk),
        };
        Form { layout, carrier }
    }

    fn serial(self, layers: usize) -> String {
        format!("{self:?}-{layers}")
    }
}

fn main() -> Result<ExitCode> {
    harness::main(Needs { disks, deadline: Duration::from_secs(420), ..Needs::default() }, TESTS)
}

/// What layer `index` says of itself. Lengths differ, so that the places of layers do.
fn content(index: usize) -> String {
    format!("layer {index}\n").repeat(400 + index * 57 % 900)
}

/// A file that every layer replaces.
const EVERY: &str = "every";

/// A file that only layer `index` has.
fn own(index: usize) -> String {
    format!("own/{index}")
}

fn disks(workshop: &Workshop<'_>) -> Result<Vec<Disk>> {
    let layers = (0..LONGEST).map(|index| layer(workshop.directory, index)).collect::<Result<Vec<_>>>()?;
    let disk = |(kind, count): &(Kind, usize)| {
        let home = workshop.directory.join(kind.serial(*count));
        let made = disk(&home, *kind, &layers[..*count]);
        made.with_context(|| format!("{kind:?} of {count} layers"))
    };
    DISKS.iter().map(disk).collect()
}

/// A layer in a directory of its own.
fn layer(directory: &Path, index: usize) -> Result<PathBuf> {
    let (top, home) = (directory.join(format!("top-{index}")), directory.join(format!("layer-{index}")));
    fs::create_dir_all(top.join("own"))?;
    fs::create_dir(&home)?;
    fs::write(top.join(EVERY), content(index))?;
    fs::write(top.join(own(index)), content(index))?;
    let path = home.join("layer.erofs");
    let name = format!("{index:032x}").parse()?;
    // A tree behind the image is a part of the device too.
    let tree = HashTree::wanted(index.is_multiple_of(2));
    written::build(File::open(&top)?.into(), &path, name, tree, &|_| {}, &|| false)?;
    if index == LARGE {
        File::options().write(true).open(&path)?.set_len(LARGE_BYTES)?;
    }
    Ok(path)
}

fn disk(home: &Path, kind: Kind, layers: &[PathBuf]) -> Result<Disk> {
    let staging = home.join("staging");
    fs::create_dir_all(&staging)?;
    let metadata = home.join("fsmeta.erofs");
    merged_chain::merge(&metadata, layers.iter().map(|path| (path.clone(), None)))?;
    let chain = Chain { home, metadata: Some(&metadata), layers };
    let made = device::make(kind.form(), chain, &StagingArea::new(staging), &mut |_| {})?;
    let format = match kind.form().carrier {
        Carrier::Vmdk => "vmdk",
        Carrier::Flat => "raw",
    };
    Ok(Disk::of(format, kind.serial(layers.len()), made.path))
}

/// Runs a test on the disks of a kind.
fn all(kind: Kind, test: fn(Kind, &Path, usize) -> Result<()>) -> Result<()> {
    for (_, layers) in DISKS.iter().filter(|(found, _)| *found == kind) {
        let device = init::device(&kind.serial(*layers))?;
        test(kind, &device, *layers).with_context(|| format!("{kind:?} of {layers} layers"))?;
    }
    Ok(())
}

/// An EROFS that is mounted while this lives.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new(device: &Path) -> Result<Self> {
        let point = tempfile::tempdir()?;
        mount(device, point.path(), "erofs", MountFlags::RDONLY, None)
            .with_context(|| format!("mount {}", device.display()))?;
        Ok(Self(point))
    }

    fn read(&self, path: &str) -> Result<String> {
        fs::read_to_string(self.0.path().join(path)).with_context(|| format!("read {path}"))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(self.0.path(), UnmountFlags::empty()).unwrap();
    }
}

fn merged_disk(_: Kind, device: &Path, layers: usize) -> Result<()> {
    let mounted = Mounted::new(device)?;
    ensure!(mounted.read(EVERY)? == content(layers - 1), "the newest layer is not on top");
    for index in 0..layers {
        ensure!(mounted.read(&own(index))? == content(index), "the file of layer {index}");
    }
    let found = fs::read_dir(mounted.0.path().join("own"))?.count();
    ensure!(found == layers, "{found} files");
    Ok(())
}

fn partitions(kind: Kind, device: &Path, layers: usize) -> Result<()> {
    for partition in 0..layers {
        // The newest layer is the first partition.
        let index = layers - 1 - partition;
        let name = match kind {
            Kind::Kata => format!("erofs-{partition}-slayer-{index}"),
            _ => format!("erofs-layer-{partition}"),
        };
        let found = partition_called(device, &name)?;
        let size = found.sectors * 512;
        let mounted = Mounted::new(&found.path).with_context(|| name.clone())?;
        ensure!(mounted.read(EVERY)? == content(index), "{name} is another layer");
        ensure!(mounted.read(&own(index))? == content(index), "{name} has another file");
        if index == LARGE {
            ensure!(size == LARGE_BYTES, "{name} has {size} bytes");
            let mut last = [1; 4096];
            File::open(&found.path)?.read_exact_at(&mut last, LARGE_BYTES - 4096)?;
            ensure!(last == [0; 4096], "{name} ends with something else");
        }
    }
    Ok(())
}

/// A partition, as the kernel shows it.
struct Partition {
    path: PathBuf,
    sectors: u64,
}

/// The partition of a disk with this name.
fn partition_called(disk: &Path, name: &str) -> Result<Partition> {
    let disk = Path::new("/sys/block").join(disk.file_name().context("a disk has a name")?);
    for entry in fs::read_dir(&disk)? {
        let entry = entry?.path();
        let Ok(uevent) = fs::read_to_string(entry.join("uevent")) else { continue };
        if uevent.lines().any(|line| line.strip_prefix("PARTNAME=") == Some(name)) {
            let sectors = fs::read_to_string(entry.join("size"))?.trim().parse()?;
            return Ok(Partition { path: Path::new("/dev").join(entry.file_name().unwrap()), sectors });
        }
    }
    anyhow::bail!("{} has no partition called {name}", disk.display())
}
