//! Durations by call, and what is said of them.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nexuserofs_integration::client::Answer;

use super::calls::Call;

/// Durations by call.
#[derive(Debug, Default)]
pub(super) struct Samples(BTreeMap<Call, Vec<Duration>>);

/// What is said of the durations of one call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Summary {
    /// Of an even number, the upper of the middle two.
    pub(super) median: Duration,
    /// Ninety-nine of a hundred took at most this.
    pub(super) p99: Duration,
}

impl Samples {
    pub(super) fn add(&mut self, call: Call, took: Duration) {
        self.0.entry(call).or_default().push(took);
    }

    /// Makes a call and notes how long the answer took.
    pub(super) fn time<T>(&mut self, call: Call, ask: impl FnOnce() -> Answer<T>) -> Result<()> {
        let begun = Instant::now();
        let answer = ask();
        let took = begun.elapsed();
        answer.with_context(|| format!("{call:?}"))?;
        self.add(call, took);
        Ok(())
    }

    pub(super) fn of(&self, call: Call) -> Option<Summary> {
        let mut sorted = self.0.get(&call)?.clone();
        sorted.sort();
        let at = |share: usize| sorted.get((sorted.len() * share / 100).min(sorted.len() - 1)).copied();
        Some(Summary { median: at(50)?, p99: at(99)? })
    }
}

/// Memory of a process in bytes, as the kernel counts it for `VmRSS` of `/proc/PID/status`.
pub(super) fn resident_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kibibytes.with_context(|| format!("{path} has no VmRSS"))? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_p99_of_a_hundred() {
        let mut samples = Samples::default();
        (1..=100).rev().for_each(|number| samples.add(Call::Stat, Duration::from_micros(number)));
        let summary = samples.of(Call::Stat).unwrap();
        assert_eq!(summary.median, Duration::from_micros(51));
        assert_eq!(summary.p99, Duration::from_micros(100));
        assert_eq!(samples.of(Call::List), None);
    }

    #[test]
    fn a_process_has_memory() {
        assert!(resident_bytes(std::process::id()).unwrap() > 1 << 20);
    }
}
