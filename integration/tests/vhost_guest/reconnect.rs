//! Exporters that are killed under a running guest and started again: it goes on, and nothing that it flushed is lost.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nexuserofs_integration::guest::init;
use nexuserofs_integration::guest::qemu::Next;
use nexuserofs_integration::guest::scenario::{Guest, Machine, Scenario};
use nexuserofs_integration::random::Random;
use nexuserofs_integration::stage::Place;
use nexuserofs_integration::tree;
use nexuserofs_integration::vhost::exporter::Exporter;
use nexuserofs_integration::vhost::ours::{self, Disk, IMAGE, Verify, WRITABLE};
use rustix::mount::MountFlags;

use crate::mounted::Mounted;
use crate::{layers, merged_chain};

pub(crate) const SCENARIO: Scenario =
    Scenario { name: "a_guest_goes_on_when_its_exporters_were_killed", on_machine, inside };

const LAYERS: usize = 9;
/// Files that the guest writes and flushes, one after the other.
const FILES: usize = 40;
/// After so many of them the exporters are killed.
const KILLED_AFTER: [usize; 3] = [4, 15, 26];
/// What the guest prints after each file, with its number.
const FLUSHED: &str = "STEP flushed ";

/// What is exported.
struct Disks {
    metadata: PathBuf,
    layers: Vec<PathBuf>,
    block: PathBuf,
}

impl Disks {
    fn export(&self, programs: &Path, directory: &Path) -> Result<[Exporter; 2]> {
        let image = Disk::Layers { metadata: &self.metadata, layers: &self.layers };
        let export =
            |name: &str, disk: &Disk<'_>| ours::export(programs, disk, &directory.join(name), Verify::No);
        Ok([export(IMAGE, &image)?, export(WRITABLE, &Disk::Block(&self.block))?])
    }
}

fn content(number: usize) -> Vec<u8> {
    let mut random = Random::new(2 * number as u64 + 1);
    (0..40_000).flat_map(|_| random.bits().to_le_bytes()).collect()
}

fn on_machine(machine: &Machine) -> Result<()> {
    let directory = machine.directory("reconnect")?;
    let disks = Disks {
        metadata: directory.join("fsmeta.erofs"),
        layers: layers::make(&directory, LAYERS)?,
        block: directory.join("rwlayer.img"),
    };
    merged_chain::merge(&disks.metadata, disks.layers.iter().map(|path| (path.clone(), None)))?;
    super::block::make(&disks.block, &directory)?;
    let exporters = disks.export(&machine.programs, &directory)?;
    let sockets: Vec<PathBuf> = exporters.iter().map(|exporter| exporter.socket().to_owned()).collect();
    let running = Mutex::new((exporters, 0));
    let (shared, known, place) = (&running, &disks, &directory);
    let watch = move |line: &str| {
        let flushed = line.strip_prefix(FLUSHED).and_then(|number| number.parse().ok());
        if flushed.is_some_and(|number: usize| KILLED_AFTER.contains(&number)) {
            let (exporters, kills) = &mut *shared.lock().unwrap();
            for exporter in &mut *exporters {
                exporter.kill().unwrap();
            }
            *exporters = known.export(&machine.programs, place).unwrap();
            *kills += 1;
        }
        Next::GoOn
    };
    let guest = Guest {
        directory: &directory,
        arguments: &[SCENARIO.name],
        disks: &[],
        exports: &sockets,
        memory: 1024,
        deadline: Duration::from_secs(300),
    };
    machine.boot(guest, watch)?;
    let (exporters, kills) = running.into_inner()?;
    ensure!(kills == KILLED_AFTER.len(), "the exporters were killed {kills} times");
    drop(exporters);
    for number in 0..FILES {
        let found = super::block::reread(&disks.block, &format!("/{number}"))?;
        ensure!(found == content(number), "the host finds something else in file {number}");
    }
    Ok(fs::remove_dir_all(directory)?)
}

fn inside(_: &Place) -> Result<()> {
    let image = Mounted::device(&init::device(IMAGE)?, "erofs", MountFlags::RDONLY)?;
    let block = Mounted::device(&init::device(WRITABLE)?, "ext4", MountFlags::empty())?;
    let before = tree::read(image.path())?;
    for number in 0..FILES {
        let mut file = File::create(block.path().join(number.to_string()))?;
        file.write_all(&content(number))?;
        file.sync_all()?;
        File::open(block.path())?.sync_all()?;
        println!("{FLUSHED}{number}");
        // So that the image is read from its disk meanwhile too.
        fs::write("/proc/sys/vm/drop_caches", "3").context("drop the page cache")?;
        ensure!(tree::read(image.path())? == before, "the image is another after file {number}");
    }
    for number in 0..FILES {
        let found = fs::read(block.path().join(number.to_string()))?;
        ensure!(found == content(number), "the guest finds something else in file {number}");
    }
    Ok(())
}
