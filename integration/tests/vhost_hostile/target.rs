//! The exporter that hostile front-ends connect to.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use nexuserofs_integration::random::Random;
use nexuserofs_integration::vhost::driver::{Driver, Shape};
use nexuserofs_integration::vhost::exporter::Exporter;
use nexuserofs_integration::vhost::ours::{self, Disk, Verify};
use rustix::process::Signal;

/// Size of every file here, in bytes.
pub(crate) const BYTES: usize = 4 << 20;

/// Bytes of an honest read.
const REQUEST: usize = 64 << 10;

/// The most that an exporter may hold of its own, in bytes, and of descriptors and threads, between two attacks.
const OWN_BYTES: u64 = 128 << 20;
const DESCRIPTORS: usize = 48;
const THREADS: usize = 12;

/// How long a dead process may take to be seen as such.
const PAUSE: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_millis(20);

/// What is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    Image,
    Block,
}

/// An exporter, and files beside the one that it exports.
#[derive(Debug)]
pub(crate) struct Target {
    contents: Contents,
    programs: PathBuf,
    directory: PathBuf,
    exporter: Exporter,
    /// Memory was taken away under it since it last served an honest front-end. The threads of a connection end before
    /// the next is served, but the signal may come at any time until then.
    may_end: bool,
}

/// Bytes that are different for each seed.
pub(crate) fn pattern(seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    (0..BYTES / 8).flat_map(|_| random.bits().to_le_bytes()).collect()
}

impl Target {
    pub(crate) fn start(programs: &Path, directory: &Path, contents: Contents) -> Result<Self> {
        let directory = directory.join(format!("{contents:?}"));
        fs::create_dir(&directory)?;
        for (name, seed) in [("before", 5), ("disk", 7), ("under", 9)] {
            fs::write(directory.join(name), pattern(seed))?;
        }
        let exporter = export(programs, &directory, contents)?;
        Ok(Self { contents, programs: programs.to_owned(), directory, exporter, may_end: false })
    }

    pub(crate) fn socket(&self) -> &Path {
        self.exporter.socket()
    }

    /// Looks whether the exporter has survived an attack, and starts it again if not. It may have ended only if memory
    /// was taken away under it. Returns whether it had.
    pub(crate) fn look(&mut self, vanished: bool) -> Result<bool> {
        self.may_end |= vanished;
        let begun = Instant::now();
        let status = loop {
            let status = self.exporter.ended()?;
            if status.is_some() || !vanished || begun.elapsed() > PATIENCE {
                break status;
            }
            std::thread::sleep(PAUSE);
        };
        let Some(status) = status else { return Ok(false) };
        if !self.may_end || status.signal() != Some(Signal::BUS.as_raw()) {
            let log = fs::read_to_string(self.exporter.socket().with_extension("log"))?;
            bail!("the exporter of the {:?} ended with {status}: {log}", self.contents);
        }
        self.exporter = export(&self.programs, &self.directory, self.contents)?;
        self.may_end = false;
        Ok(true)
    }

    /// Looks the same way when somebody was not served, which may be because the exporter ended just then of an attack before.
    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        self.look(self.may_end)
    }

    /// An honest front-end is served as if nothing had been. Returns whether the exporter had to be started again, as
    /// [`Target::look`] does.
    pub(crate) fn serves_still(&mut self) -> Result<bool> {
        let mut is_new = false;
        if let Err(error) = self.serves_one() {
            is_new = self.has_ended()?;
            if !is_new {
                return Err(error);
            }
            self.serves_one()?;
        }
        self.may_end = false;
        self.holds_little()?;
        Ok(is_new)
    }

    fn serves_one(&self) -> Result<()> {
        let mut driver =
            Driver::connect(self.socket(), Shape { queue_size: 16, depth: 1, request: REQUEST })?;
        ensure!(driver.capacity()? == BYTES as u64, "the disk has another size");
        let expected = pattern(7);
        for offset in (0..BYTES).step_by(BYTES / 4) {
            let found = driver.read(offset as u64)?;
            // What hostile front-ends wrote into a block is theirs.
            let is_same = found == expected[offset..offset + REQUEST];
            ensure!(is_same || self.contents == Contents::Block, "the image has other bytes at {offset}");
        }
        Ok(())
    }

    /// It has not gathered memory, descriptors or threads.
    fn holds_little(&self) -> Result<()> {
        let own = self.exporter.usage()?.own_bytes;
        ensure!(own < OWN_BYTES, "the exporter holds {own} bytes");
        let count = |what: &str| -> Result<usize> {
            Ok(fs::read_dir(format!("/proc/{}/{what}", self.exporter.pid()))?.count())
        };
        let (descriptors, threads) = (count("fd")?, count("task")?);
        ensure!(descriptors < DESCRIPTORS, "the exporter has {descriptors} open files");
        ensure!(threads < THREADS, "the exporter has {threads} threads");
        Ok(())
    }

    /// No file has become longer, and none but the block has another content.
    pub(crate) fn check(&self) -> Result<()> {
        for (name, seed) in [("before", 5), ("disk", 7), ("under", 9)] {
            let found = fs::read(self.directory.join(name))?;
            ensure!(found.len() == BYTES, "{name} has {} bytes", found.len());
            let is_written_to = name == "disk" && self.contents == Contents::Block;
            ensure!(is_written_to || found == pattern(seed), "{name} was changed");
        }
        let log = fs::read_to_string(self.exporter.socket().with_extension("log"))?;
        ensure!(!log.contains("panicked"), "a thread panicked: {log}");
        Ok(())
    }
}

fn export(programs: &Path, directory: &Path, contents: Contents) -> Result<Exporter> {
    let file = directory.join("disk");
    let disk = match contents {
        Contents::Image => Disk::File(&file),
        Contents::Block => Disk::Block(&file),
    };
    ours::export(programs, &disk, &directory.join("export"), Verify::No)
}
