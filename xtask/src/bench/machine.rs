//! What a reader of a benchmark wants to know of the machine. No names of hosts or users.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use nexuserofs_integration::bed::Bed;
use nexuserofs_integration::command::Run;

/// When a benchmark ran, and on what.
#[derive(Debug, Default)]
pub(super) struct Setting {
    date: String,
    machine: String,
    versions: String,
}

impl Setting {
    /// Now, in this test bed.
    pub(super) fn of(bed: &Bed) -> Result<Self> {
        Self::on_machine(&bed.place.scratch, bed.place.versions.clone())
    }

    /// Now, on the machine itself, with files in `directory`. `versions` are those of the programs that are measured,
    /// one a line.
    pub(super) fn on_machine(directory: &Path, versions: String) -> Result<Self> {
        Ok(Self { date: today()?, machine: describe(directory)?, versions })
    }

    /// Writes it as Markdown, with `how` it was measured, such as how many rounds there were.
    pub(super) fn write(&self, f: &mut fmt::Formatter<'_>, how: fmt::Arguments<'_>) -> fmt::Result {
        writeln!(f, "{}, {how}. {}.\n", self.date, self.machine)?;
        self.versions.lines().try_for_each(|line| writeln!(f, "    {line}"))
    }
}

/// One sentence: processor, cores, memory, kernel, file system below `dir`.
fn describe(dir: &Path) -> Result<String> {
    let processor = field("/proc/cpuinfo", "model name")?;
    let memory = field("/proc/meminfo", "MemTotal")?;
    let kibibytes: u64 =
        memory.trim_end_matches(" kB").trim().parse().context("MemTotal of /proc/meminfo")?;
    let cores = std::thread::available_parallelism()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let disk = Run::new("findmnt").args(["--noheadings", "--output=FSTYPE", "--target"]).arg(dir).output()?;
    Ok(format!(
        "{processor}, {cores} cores, {} GiB, Linux {}, {}",
        kibibytes.div_ceil(1 << 20),
        // What follows the version proper may name whoever built the kernel.
        kernel.split('-').next().unwrap_or_default().trim(),
        disk.trim()
    ))
}

/// The first value of `name` in a file of `name : value` lines.
fn field(file: &str, name: &str) -> Result<String> {
    let text = fs::read_to_string(file).with_context(|| format!("read {file}"))?;
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
        .with_context(|| format!("{file} has no {name}"))
}

/// Today, as `2026-11-22`.
fn today() -> Result<String> {
    Ok(Run::new("date").args(["--utc", "+%Y-%m-%d"]).output()?.trim().to_owned())
}
