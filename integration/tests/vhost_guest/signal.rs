//! What the machine tells a running guest: a disk whose first byte it changes.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nexuserofs_integration::guest::disk::Disk;
use nexuserofs_integration::guest::init;
use rustix::fs::OFlags;

/// Its serial number.
const SERIAL: &str = "signal";
/// Its size, and the alignment of reads past the guest's page cache, in bytes.
const BLOCK: usize = 4096;
/// Pause between two looks, and how many there are.
const PAUSE: Duration = Duration::from_millis(50);
const LOOKS: u32 = 2400;

/// The machine's end.
#[derive(Debug)]
pub(crate) struct Signal(File);

impl Signal {
    /// A disk that tells 0, in `directory`.
    pub(crate) fn new(directory: &Path) -> Result<(Self, Disk)> {
        let path = directory.join("signal.raw");
        let file = File::create(&path).with_context(|| format!("make {}", path.display()))?;
        file.set_len(BLOCK as u64)?;
        Ok((Self(file), Disk::raw(SERIAL, path)))
    }

    /// Tells this number from now on.
    pub(crate) fn tell(&self, number: u8) -> Result<()> {
        self.0.write_all_at(&[number], 0).context("tell the guest")
    }
}

/// Prints what the guest has reached, and waits until the machine tells this number.
pub(crate) fn reach(step: &str, number: u8) -> Result<()> {
    println!("{step}");
    let flags = OFlags::DIRECT.bits().cast_signed();
    let disk = OpenOptions::new().read(true).custom_flags(flags).open(init::device(SERIAL)?)?;
    let mut memory = vec![0; 2 * BLOCK];
    let start = memory.as_ptr().align_offset(BLOCK);
    let mut looks = 0;
    loop {
        disk.read_exact_at(&mut memory[start..start + BLOCK], 0)?;
        if memory[start] >= number {
            return Ok(());
        }
        looks += 1;
        ensure!(looks < LOOKS, "the machine did not tell {number} after {step}");
        thread::sleep(PAUSE);
    }
}
