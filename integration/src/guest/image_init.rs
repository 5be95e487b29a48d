//! A guest whose first process is the project's own program, and whose root file system is an image's.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use super::disk::Disk;
use super::init::MODULES;
use super::initramfs::Initramfs;
use super::qemu::Boot;
use super::system::System;
use crate::cache::Cache;
use crate::cargo;
use crate::host::TestHost;
use crate::progress::Steps;

/// What is the same for all such guests.
#[derive(Debug)]
pub struct Machine {
    system: System,
    program: Vec<u8>,
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
const DEADLINE: Duration = Duration::from_secs(120);

impl Machine {
    /// Makes what the cache has not.
    ///
    /// # Errors
    /// A part cannot be made.
    pub fn prepare(cache: &Cache, steps: &Steps<'_>) -> Result<Self> {
        let host = TestHost::prepare(cache, steps)?;
        let system = System::make(cache, &host, steps)?;
        let program = steps.run("nexuserofs-guest", cargo::guest_program)?;
        let program = fs::read(&program).with_context(|| format!("read {}", program.display()))?;
        Ok(Self { system, program })
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
        for (number, module) in self.system.kernel.modules.iter().enumerate() {
            archive.file(&format!("{MODULES}/{number:02}.ko.xz"), &fs::read(module)?);
        }
        guest.files.iter().for_each(|(path, bytes)| archive.file(path, bytes));
        fs::write(&initramfs, archive.finish())?;
        let console = guest.directory.join("console");
        let boot = Boot {
            kernel: &self.system.kernel.image,
            initramfs: &initramfs,
            parameters: guest.parameters,
            disks: guest.disks,
            memory: 512,
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
