//! The disk from inside a guest: behind our exporter, and as QEMU's own disk.
//!
//! This program is carried into a guest that has both disks, and reads them there in turns.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nexuserofs_integration::command::Run;
use nexuserofs_integration::guest::disk::Disk;
use nexuserofs_integration::guest::init;
use nexuserofs_integration::guest::qemu::Next;
use nexuserofs_integration::guest::scenario::{Guest, Machine};
use nexuserofs_integration::random::Random;
use nexuserofs_integration::vhost::ours::SERIAL;
use rustix::fs::OFlags;

use super::contender::median;
use super::image::Image;
use super::workload::Sample;

/// Serial number of QEMU's own disk.
const QEMU: &str = "qemu";

/// What a line with a sample begins with.
const LINE: &str = "SAMPLE ";

/// Alignment of what is read past the guest's page cache, in bytes.
const ALIGNMENT: usize = 4096;

/// A way of reading. The guest's processor is emulated, so there are few requests.
#[derive(Clone, Copy, Debug)]
struct Workload {
    name: &'static str,
    is_random: bool,
    request: usize,
    threads: usize,
    /// Requests of each thread.
    requests: usize,
}

const WORKLOADS: [Workload; 3] = [
    Workload {
        name: "sequential, 1 MiB, depth 1",
        is_random: false,
        request: 1 << 20,
        threads: 1,
        requests: 400,
    },
    Workload { name: "random, 4 KiB, depth 1", is_random: true, request: 4096, threads: 1, requests: 3000 },
    Workload { name: "random, 4 KiB, depth 32", is_random: true, request: 4096, threads: 32, requests: 250 },
];

/// What was measured: each workload by name, behind our exporter and on QEMU's own disk.
#[derive(Debug, Default)]
pub(super) struct InGuest {
    pub(super) rows: Vec<Row>,
}

/// Medians of a workload.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) request: usize,
    pub(super) is_random: bool,
    pub(super) ours: Sample,
    pub(super) qemu: Sample,
}

/// QEMU's version, as it says it.
pub(super) fn qemu_version() -> Result<String> {
    let said = Run::new("qemu-system-x86_64").arg("--version").output()?;
    Ok(said.lines().next().unwrap_or_default().to_owned())
}

/// Boots a guest with both disks and collects its samples.
pub(super) fn measure(machine: &Machine, image: &Image, socket: PathBuf, rounds: u32) -> Result<InGuest> {
    let directory = machine.directory("bench-guest")?;
    let rounds_told = rounds.to_string();
    let guest = Guest {
        directory: &directory,
        arguments: &["bench", "vhost", "--rounds", &rounds_told],
        disks: &[Disk::raw(QEMU, image.flat())],
        exports: &[socket],
        memory: 1024,
        deadline: Duration::from_secs(1200),
    };
    let samples = Mutex::new(Vec::new());
    let taken = &samples;
    machine.boot(guest, move |line| {
        if let (Some(sample), Ok(mut samples)) = (parse(line), taken.lock()) {
            samples.push(sample);
        }
        Next::GoOn
    })?;
    let samples = samples.into_inner().unwrap_or_default();
    let row = |(number, workload): (usize, &Workload)| {
        let of = |serial: &str| -> Result<Sample> {
            let is_it = |taken: &&Taken| taken.workload == number && taken.serial == serial;
            let samples: Vec<Sample> = samples.iter().filter(is_it).map(|taken| taken.sample).collect();
            ensure!(samples.len() == rounds as usize, "{} samples of {serial}", samples.len());
            Ok(median(&samples))
        };
        let (ours, qemu) = (of(SERIAL)?, of(QEMU)?);
        Ok(Row { name: workload.name, request: workload.request, is_random: workload.is_random, ours, qemu })
    };
    Ok(InGuest { rows: WORKLOADS.iter().enumerate().map(row).collect::<Result<_>>()? })
}

/// A sample, as the guest told it.
#[derive(Debug, PartialEq)]
struct Taken {
    workload: usize,
    serial: String,
    sample: Sample,
}

fn parse(line: &str) -> Option<Taken> {
    let mut words = line.strip_prefix(LINE)?.split(' ');
    let (workload, serial) = (words.next()?.parse().ok()?, words.next()?.to_owned());
    let (bytes, seconds) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(Taken { workload, serial, sample: Sample { bytes, seconds, cpu_seconds: 0.0 } })
}

/// The part in the guest: reads both disks in turns, and prints the samples.
pub(super) fn inside(rounds: u32) -> Result<ExitCode> {
    let mut disks = [SERIAL, QEMU].map(|serial| (serial, init::device(serial)));
    for _ in 0..rounds {
        for (number, workload) in WORKLOADS.iter().enumerate() {
            for (serial, device) in &disks {
                let device = device.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
                let (bytes, seconds) = workload.read(device).context(workload.name)?;
                println!("{LINE}{number} {serial} {bytes} {seconds}");
            }
        }
        disks.reverse();
    }
    Ok(ExitCode::SUCCESS)
}

impl Workload {
    /// Reads past the guest's page cache, and returns bytes and seconds.
    fn read(&self, device: &Path) -> Result<(usize, f64)> {
        let flags = OFlags::DIRECT.bits().cast_signed();
        let disk = OpenOptions::new().read(true).custom_flags(flags).open(device);
        let disk = disk.with_context(|| format!("open {}", device.display()))?;
        let bytes = rustix::fs::seek(&disk, rustix::fs::SeekFrom::End(0)).context("ask for a disk's size")?;
        let places = usize::try_from(bytes)? / self.request;
        let begun = Instant::now();
        thread::scope(|scope| -> Result<()> {
            let disk = &disk;
            let readers: Vec<_> =
                (0..self.threads).map(|thread| scope.spawn(move || self.one(disk, places, thread))).collect();
            readers.into_iter().try_for_each(|reader| match reader.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })?;
        Ok((self.request * self.requests * self.threads, begun.elapsed().as_secs_f64()))
    }

    /// What one thread reads.
    fn one(&self, disk: &File, places: usize, thread: usize) -> Result<()> {
        let mut memory = vec![0; self.request + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        let buffer = memory.get_mut(start..start + self.request).context("memory has addresses")?;
        let mut random = Random::new(2 * thread as u64 + 1);
        for number in 0..self.requests {
            let place = if self.is_random { random.below(places) } else { number % places };
            disk.read_exact_at(buffer, (place * self.request) as u64)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_told_by_lines() {
        let sample = Sample { bytes: 4096.0, seconds: 0.5, cpu_seconds: 0.0 };
        assert_eq!(
            parse("SAMPLE 2 qemu 4096 0.5"),
            Some(Taken { workload: 2, serial: "qemu".into(), sample })
        );
        assert_eq!(parse("[    1.0] SAMPLE 2 qemu 4096"), None);
    }
}
