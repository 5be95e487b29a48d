//! `cargo xtask bench layers`: containerd's own test of long chains, with us and with its built-in erofs snapshotter.

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nexuserofs_integration::bed::Bed;
use nexuserofs_integration::conformance::{self, LONG_CHAIN};
use nexuserofs_integration::gotest::Ending;

use super::machine::Setting;
use super::{Corpus, RoundsArguments, run_in_bed};

/// What is measured against: the Go test of the program.
const BUILTIN: &str = "TestBuiltin";

/// Ours, and what each is. The first is what something is demanded of.
const OURS: [(&str, &str); 3] = [
    ("TestHostInDirectories", "host flavour"),
    ("TestMergedHost", "host flavour, layers merged"),
    ("TestHostInBlocks", "host flavour, writable blocks"),
];

/// How many times as long as ours the built-in has to take.
const FASTER: f64 = 3.0;

pub(super) fn run(arguments: &RoundsArguments) -> Result<ExitCode> {
    run_in_bed(Corpus::Suite, arguments.print_only, |bed| measure_all(bed, arguments.rounds))
}

/// Seconds of each round.
#[derive(Debug)]
struct Row {
    test: &'static str,
    name: &'static str,
    seconds: Vec<f64>,
}

#[derive(Debug)]
struct Report {
    setting: Setting,
    rounds: u32,
    builtin: Row,
    ours: Vec<Row>,
}

fn measure_all(bed: &Bed, rounds: u32) -> Result<Report> {
    let row = |test, name| Row { test, name, seconds: Vec::new() };
    let mut builtin = row(BUILTIN, "containerd's erofs snapshotter");
    let mut ours: Vec<Row> = OURS.iter().map(|&(test, name)| row(test, name)).collect();
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        for row in std::iter::once(&mut builtin).chain(&mut ours) {
            row.seconds.push(once(bed, row.test)?.as_secs_f64());
        }
    }
    Ok(Report { setting: Setting::of(bed)?, rounds, builtin, ours })
}

fn once(bed: &Bed, test: &str) -> Result<Duration> {
    let ended = conformance::run(&bed.place, test, Some(LONG_CHAIN))?;
    let chain = ended.iter().find(|ended| ended.name == LONG_CHAIN);
    let chain = chain.with_context(|| format!("{LONG_CHAIN} of {test} did not run"))?;
    ensure!(chain.ending == Ending::Passed, "{LONG_CHAIN} of {test} did not pass");
    Ok(chain.took)
}

impl Row {
    /// Of an even number, the upper of the middle two.
    fn median(&self) -> f64 {
        let mut seconds = self.seconds.clone();
        seconds.sort_by(f64::total_cmp);
        seconds.get(seconds.len() / 2).copied().unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# A chain of 128 layers, measured\n\n\
             `cargo xtask bench layers` writes this section: the test `{LONG_CHAIN}` of containerd's own suite for snapshotters. It makes 128\n\
             layers, each on the one before: Prepare, mount, compare with what should be there, write, compare again, unmount, Commit.\n\
             Comparing, writing and syncing files are the test's own work, the same for all. In each time of ours are a start and an end\n\
             of the daemon, and a gRPC call where the built-in snapshotter is called in the test's own process.\n"
        )?;
        self.setting.write(f, format_args!("medians of {}", self.rounds))?;
        let builtin = self.builtin.median();
        writeln!(f, "\n| | seconds | the built-in takes so many times as long |\n|---|---|---|")?;
        writeln!(f, "| {} | {builtin:.1} | |", self.builtin.name)?;
        for row in &self.ours {
            writeln!(f, "| {} | {:.1} | {:.1} |", row.name, row.median(), builtin / row.median())?;
        }
        let Some(first) = self.ours.first() else { return Ok(()) };
        let measured = builtin / first.median();
        let met = if measured >= FASTER { "met" } else { "**not met**" };
        writeln!(
            f,
            "\n{}: at least {FASTER:.1} times is demanded, {measured:.1} measured: {met}.",
            first.name
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demand_is_judged_by_medians() {
        let row = |name, seconds: &[f64]| Row { test: "", name, seconds: seconds.to_vec() };
        let report = |ours| Report {
            setting: Setting::default(),
            rounds: 3,
            builtin: row("theirs", &[30.0, 99.0, 1.0]),
            ours: vec![row("ours", ours)],
        };
        assert!(report(&[10.0, 9.0, 80.0]).to_string().contains("3.0 measured: met"));
        assert!(report(&[11.0]).to_string().contains("2.7 measured: **not met**"));
    }
}
