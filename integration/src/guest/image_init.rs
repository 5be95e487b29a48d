//! A guest whose first process is the project's own program, and whose root file system is an image's.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use super::disk::Disk;
use super::initramfs::Initramfs;
use super::kernel::{Kernel, Release};
use super::qemu::{Boot, PROCESSORS};
use super::system;
use crate::cache::Cache;
use crate::cargo;
use crate::progress::Steps;
use crate::stage::Place;

/// What is the same for all such guests.
#[derive(Debug)]
pub struct Machine {
    kernel: Kernel,
    program: Vec<u8>,
    /// The root of the system that has QEMU.
    root: PathBuf,
}

/// One guest.
#[derive(Debug)]
pub struct Guest<'a> {
    /// Its disks.
    pub disks: &'a [Disk],
    /// Files in the initramfs besides the program and the kernel's modules, by their paths without the slash.
    pub files: &'a [(&'a str, &'a [u8])],
    /// What the kernel is told besides.
    pub parameters: &'a str,
    /// An empty directory.
    pub directory: &'a Path,
}

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The exit code that it told. None if it powered off without one.
    pub code: Option<u8>,
    /// The other lines on the second serial line.
    pub printed: Vec<String>,
    /// What was on the console.
    pub console: String,
}

/// How long a boot may take.
const DEADLINE: Duration = Duration::from_secs(300);

/// Makes for guests in the test host what the cache has not, and returns the file of their program.
pub(crate) fn make(cache: &Cache, steps: &Steps<'_>) -> Result<PathBuf> {
    system::kernel(cache, Release::default(), steps)?;
    steps.run("nexuserofs-guest", cargo::guest_program)
}

impl Machine {
    /// Makes what the cache has not.
    ///
    /// # Errors
    /// A part cannot be made.
    pub fn prepare(cache: &Cache, release: Release, steps: &Steps<'_>) -> Result<Self> {
        let kernel = system::kernel(cache, release, steps)?;
        let program = steps.run("nexuserofs-guest", cargo::guest_program)?;
        Ok(Self { kernel, program: read(&program)?, root: "/".into() })
    }

    /// Finds in the test host what [`crate::bed`] made for it on the machine.
    ///
    /// # Errors
    /// It was not asked for.
    pub fn inside(place: &Place) -> Result<Self> {
        let (kernel, _) = Kernel::make(&Cache::at(&place.cache)?, Release::default())?;
        let program = read(&place.guest_program).context("ask for guests in the Needs of this program")?;
        Ok(Self { kernel, program, root: place.machine.clone() })
    }

    /// Boots a guest and waits until it is off. Its image tells the exit code by a line `GUEST-EXIT CODE` on the
    /// second serial line, `/dev/ttyS1`.
    ///
    /// # Errors
    /// It does not end by itself, or QEMU fails.
    pub fn boot(&self, guest: &Guest<'_>) -> Result<Ended> {
        let initramfs = guest.directory.join("initramfs");
        let mut archive = Initramfs::default();
        archive.file("init", &self.program);
        self.kernel.carry_modules(&mut archive)?;
        guest.files.iter().for_each(|(path, bytes)| archive.file(path, bytes));
        fs::write(&initramfs, archive.finish())?;
        let console = guest.directory.join("console");
        let boot = Boot {
            root: &self.root,
            kernel: &self.kernel.image,
            initramfs: &initramfs,
            parameters: guest.parameters,
            disks: guest.disks,
            memory: 512,
            processors: PROCESSORS,
            console: console.clone(),
            deadline: DEADLINE,
        };
        let printed = Mutex::new(Vec::new());
        let relay = |line: &str| printed.lock().unwrap_or_else(PoisonError::into_inner).push(line.to_owned());
        let code = boot.run_to_end(relay)?;
        let printed = printed.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Ended { code, printed, console: String::from_utf8_lossy(&fs::read(&console)?).into_owned() })
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("read {}", file.display()))
}
