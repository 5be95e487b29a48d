//! The writable block, made without mkfs: what a guest gives back is the host's again, and what it flushed is there
//! after its power was cut.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nexuserofs::expose::block::BlockTemplates;
use nexuserofs::expose::overlay::Owner;
use nexuserofs::layer::RootAttributes;
use nexuserofs_integration::command::Run;
use nexuserofs_integration::guest::init;
use nexuserofs_integration::guest::qemu::{End, Next};
use nexuserofs_integration::guest::scenario::{Guest, Machine, Scenario};
use nexuserofs_integration::random::Random;
use nexuserofs_integration::stage::Place;
use nexuserofs_integration::vhost::ours::{self, Disk, SERIAL, Verify};
use rustix::mount::MountFlags;

use crate::mounted::Mounted;
use crate::signal::{Signal, reach};

pub(crate) const SCENARIO: Scenario =
    Scenario { name: "a_block_gives_space_back_and_keeps_what_was_flushed", on_machine, inside };

const MIB: u64 = 1 << 20;
/// Size of the block.
const SIZE: u64 = 256 * MIB;
/// Size of the file that is written and removed again.
const LARGE: u64 = 64 * MIB;

/// What a guest has reached.
const WRITTEN: &str = "STEP written";
const TRIMMED: &str = "STEP trimmed";
const FLUSHED: &str = "STEP flushed";

/// Makes an empty writable block.
pub(crate) fn make(path: &Path, directory: &Path) -> Result<()> {
    let templates = BlockTemplates::new();
    Ok(templates.create(path, SIZE, &RootAttributes::default(), Owner::ROOT, directory)?)
}

/// Replays the journal of an ext4 and finds it without fault, and returns a file of it.
pub(crate) fn reread(block: &Path, file: &str) -> Result<Vec<u8>> {
    // As at every boot: 1 is told for a journal that was replayed.
    let (said, _) = Run::new("sh").args(["-c", "e2fsck -p \"$0\" || [ $? = 1 ]"]).arg(block).both()?;
    Run::new("e2fsck").args(["-f", "-n"]).arg(block).run().with_context(|| said)?;
    let to = block.with_extension("reread");
    Run::new("debugfs").args(["-R", &format!("dump {file} {}", to.display())]).arg(block).run()?;
    fs::read(&to).with_context(|| format!("there is no {file}"))
}

/// Bytes that a file takes on the host.
fn allocated(block: &Path) -> Result<u64> {
    Ok(fs::metadata(block)?.blocks() * 512)
}

fn kept() -> Vec<u8> {
    let mut random = Random::new(11);
    (0..MIB / 8).flat_map(|_| random.bits().to_le_bytes()).collect()
}

fn on_machine(machine: &Machine) -> Result<()> {
    let directory = machine.directory("block")?;
    let block = directory.join("rwlayer.img");
    make(&block, &directory)?;
    let exporter =
        ours::export(&machine.programs, &Disk::Block(&block), &directory.join("sock"), Verify::No)?;
    let (signal, disk) = Signal::new(&directory)?;
    let sizes = Mutex::new(Vec::new());
    let (measured, measure) = (&sizes, block.clone());
    let watch = move |line: &str| {
        let number = match line {
            WRITTEN => 1,
            TRIMMED => 2,
            FLUSHED => return Next::CutPower,
            _ => return Next::GoOn,
        };
        measured.lock().unwrap().push(allocated(&measure).unwrap());
        signal.tell(number).unwrap();
        Next::GoOn
    };
    let guest = Guest {
        directory: &directory,
        arguments: &[SCENARIO.name],
        disks: &[disk],
        exports: &[exporter.socket().to_owned()],
        memory: 1024,
        deadline: Duration::from_secs(240),
    };
    let end = machine.boot(guest, watch)?;
    ensure!(end == End::PowerCut, "the guest ended by itself");
    let sizes = sizes.into_inner()?;
    let [written, trimmed] = *sizes else { anyhow::bail!("{} sizes were measured", sizes.len()) };
    ensure!(written >= LARGE, "{written} bytes were allocated for {LARGE} that were written");
    ensure!(trimmed + LARGE / 2 < written, "of {written} bytes {trimmed} are still allocated after fstrim");
    drop(exporter);
    ensure!(reread(&block, "/kept")? == kept(), "what was flushed is not there");
    Ok(fs::remove_dir_all(directory)?)
}

fn inside(_: &Place) -> Result<()> {
    let mounted = Mounted::device(&init::device(SERIAL)?, "ext4", MountFlags::empty())?;
    let large = mounted.path().join("large");
    let mut file = File::create(&large)?;
    let mut random = Random::new(13);
    for _ in 0..LARGE / MIB {
        let bytes: Vec<u8> = (0..MIB / 8).flat_map(|_| random.bits().to_le_bytes()).collect();
        file.write_all(&bytes)?;
    }
    file.sync_all()?;
    drop(file);
    reach(WRITTEN, 1)?;
    fs::remove_file(&large)?;
    rustix::fs::sync();
    Run::new("fstrim").arg(mounted.path()).run()?;
    reach(TRIMMED, 2)?;
    let mut file = File::create(mounted.path().join("kept"))?;
    file.write_all(&kept())?;
    file.sync_all()?;
    File::open(mounted.path())?.sync_all()?;
    let mut lost = File::create(mounted.path().join("lost"))?;
    println!("{FLUSHED}");
    loop {
        // Never flushed: in the guest's memory when its power is cut.
        lost.write_all(b"lost")?;
        thread::sleep(Duration::from_millis(20));
    }
}
