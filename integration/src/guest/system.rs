//! What a guest boots: made on the machine, the slow parts once.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::disk::{Disk, ext4};
use super::init;
use super::initramfs::Initramfs;
use super::kernel::{Kernel, Release};
use crate::cache::{Cache, Key};
use crate::host::TestHost;
use crate::machine::{self, Package};
use crate::progress::{Outcome, Steps};

/// What the machine needs for guests.
const PACKAGES: &[Package] = &[Package { name: "qemu-system-x86", provides: "qemu-system-x86_64" }];

/// Changes when disks are made in another way.
const RECIPE: &str = "disks 1";

/// Room for the test host and for containerd's programs, in bytes. The files are sparse.
const LARGE: u64 = 2 << 30;
/// Room for what tests write, in bytes.
const SCRATCH: u64 = 4 << 30;

/// The libraries of a program that was built on the machine, below the test host's root.
const LIBRARIES: &[(&str, &str)] = &[
    ("usr/lib64/ld-linux-x86-64.so.2", "lib64/ld-linux-x86-64.so.2"),
    ("usr/lib/x86_64-linux-gnu/libc.so.6", "usr/lib/x86_64-linux-gnu/libc.so.6"),
    ("usr/lib/x86_64-linux-gnu/libm.so.6", "usr/lib/x86_64-linux-gnu/libm.so.6"),
    ("usr/lib/x86_64-linux-gnu/libgcc_s.so.1", "usr/lib/x86_64-linux-gnu/libgcc_s.so.1"),
];

/// What is the same for all guests.
#[derive(Debug)]
pub(super) struct System {
    /// The kernel.
    pub kernel: Kernel,
    disks: Vec<Disk>,
}

impl System {
    /// Makes what the cache has not.
    pub(super) fn make(cache: &Cache, host: &TestHost, steps: &Steps<'_>) -> Result<Self> {
        let kernel = kernel(cache, Release::default(), steps)?;
        let disk = |serial: &'static str, content: &Path| {
            steps.run(&format!("guest disk {serial}"), || in_cache(cache, serial, content))
        };
        let disks = vec![disk(init::ROOT, &host.root)?, disk(init::TOOLS, &host.tools)?];
        Ok(Self { kernel, disks })
    }

    /// The disks of one guest, whose own go into `directory`: the system's, one with what lies in `payload`, and
    /// an empty one to write to.
    pub(super) fn disks(&self, directory: &Path, payload: &Path) -> Result<Vec<Disk>> {
        let (carried, scratch) = (directory.join("payload.ext4"), directory.join("scratch.ext4"));
        ext4(&carried, LARGE, "^has_journal", Some(payload))?;
        // What fs-verity and project quotas need of a file system.
        ext4(&scratch, SCRATCH, "verity,project,quota", None)?;
        let own = [Disk::raw(init::CARRIED, carried), Disk::raw(init::SCRATCH, scratch).writable()];
        Ok(self.disks.iter().cloned().chain(own).collect())
    }

    /// The archive with this program as first process, in `directory`.
    pub(super) fn initramfs(&self, host: &TestHost, directory: &Path) -> Result<PathBuf> {
        let mut archive = Initramfs::default();
        let program = env::current_exe().context("find this program's own file")?;
        archive.file("init", &read(&program)?);
        for (from, to) in LIBRARIES {
            archive.file(to, &read(&host.root.join(from))?);
        }
        self.kernel.carry_modules(&mut archive)?;
        let file = directory.join("initramfs");
        fs::write(&file, archive.finish()).with_context(|| format!("write {}", file.display()))?;
        Ok(file)
    }
}

/// A kernel, and what the machine needs to boot it.
pub(super) fn kernel(cache: &Cache, release: Release, steps: &Steps<'_>) -> Result<Kernel> {
    steps.run("packages for guests", || machine::install(PACKAGES))?;
    steps.run(release.step(), || Kernel::make(cache, release))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("read {}", file.display()))
}

/// A disk with a directory of the cache, made once.
fn in_cache(cache: &Cache, serial: &str, content: &Path) -> Result<(Disk, Outcome)> {
    // The directory's name has the key of its own contents.
    let key = Key::of([RECIPE, &content.to_string_lossy()]);
    let make = |dir: &Path| ext4(&dir.join("disk"), LARGE, "^has_journal", Some(content));
    let (entry, outcome) = cache.entry(&format!("guest-{serial}"), &key, make)?;
    Ok((Disk::raw(serial, entry.join("disk")), outcome))
}
