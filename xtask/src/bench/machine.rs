//! What a reader of a benchmark wants to know of the machine. No names of hosts or users.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use nexuserofs_integration::command::Run;

/// One sentence: processor, cores, memory, kernel, file system below `dir`.
pub(super) fn describe(dir: &Path) -> Result<String> {
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
pub(super) fn today() -> Result<String> {
    Ok(Run::new("date").args(["--utc", "+%Y-%m-%d"]).output()?.trim().to_owned())
}
