//! An honest front-end of another exporter.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Result, ensure};
use nexuserofs_integration::random::Random;
use nexuserofs_integration::vhost::driver::{Driver, Shape};
use nexuserofs_integration::vhost::exporter::Exporter;
use nexuserofs_integration::vhost::ours::{self, Disk, Verify};

use crate::target::{BYTES, pattern};

/// Bytes of a read.
const REQUEST: usize = 16 << 10;

/// Reads random places until it is told to finish, and holds them against what they must be.
#[derive(Debug)]
pub(crate) struct Witness {
    exporter: Exporter,
    is_over: Arc<AtomicBool>,
    reader: JoinHandle<Result<u64>>,
}

impl Witness {
    pub(crate) fn start(programs: &Path, directory: &Path) -> Result<Self> {
        let file = directory.join("witness.raw");
        let expected = pattern(17);
        fs::write(&file, &expected)?;
        let socket = directory.join("witness.sock");
        let exporter = ours::export(programs, &Disk::File(&file), &socket, Verify::No)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_over);
        let shape = Shape { queue_size: 16, depth: 1, request: REQUEST };
        let mut driver = Driver::connect(&socket, shape)?;
        let reader = thread::spawn(move || {
            let (mut random, mut reads) = (Random::new(3), 0);
            while !told.load(Ordering::Relaxed) {
                let offset = random.below(BYTES / REQUEST) * REQUEST;
                let found = driver.read(offset as u64)?;
                ensure!(found == expected[offset..offset + REQUEST], "another exporter gives other bytes");
                reads += 1;
            }
            Ok(reads)
        });
        Ok(Self { exporter, is_over, reader })
    }

    /// How many reads there were, all of them right.
    pub(crate) fn finish(mut self) -> Result<u64> {
        self.is_over.store(true, Ordering::Relaxed);
        let reads = self.reader.join().unwrap()?;
        ensure!(reads > 0, "the witness has read nothing");
        ensure!(self.exporter.ended()?.is_none(), "the other exporter has ended");
        Ok(reads)
    }
}
