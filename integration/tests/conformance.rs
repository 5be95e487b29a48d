//! containerd's own suite for snapshotters, against every profile that a host can mount, in both modes.
//!
//! `conformance/` holds the suite's program. It runs its tests one at a time, so that times can be compared with those of
//! containerd's built-in erofs snapshotter, which the table at the end shows beside ours.

use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use nexuserofs_integration::bed::{Bed, Needs, Profile};
use nexuserofs_integration::conformance::{self, LONG_CHAIN};
use nexuserofs_integration::gotest::{Ended, Ending};
use nexuserofs_integration::harness::{self, Test};
use nexuserofs_integration::host::tools::CONFORMANCE;

const TESTS: &[Test] = &[
    Test { name: "builtin_erofs", run: |bed| passes(bed, &BUILTIN) },
    Test { name: "templates_in_directories", run: |bed| passes(bed, &OURS[0]) },
    Test { name: "templates_in_blocks", run: |bed| passes(bed, &OURS[1]) },
    Test { name: "host_in_directories", run: |bed| passes(bed, &OURS[2]) },
    Test { name: "host_in_blocks", run: |bed| passes(bed, &OURS[3]) },
    Test { name: "merged_host", run: |bed| passes(bed, &OURS[4]) },
    Test { name: "times_beside_the_builtin", run: compare_times },
];

/// How many tests the suite has in containerd 2.3.4. One that is missing has not passed.
const TESTS_OF_THE_SUITE: usize = 21;

/// The suite with one snapshotter. It runs once, however many tests here look at what came of it.
struct Suite {
    /// The Go test.
    test: &'static str,
    ended: OnceLock<Result<Vec<Ended>, String>>,
}

static BUILTIN: Suite = Suite::of("TestBuiltin");

static OURS: [Suite; 5] = [
    Suite::of("TestTemplatesInDirectories"),
    Suite::of("TestTemplatesInBlocks"),
    Suite::of("TestHostInDirectories"),
    Suite::of("TestHostInBlocks"),
    Suite::of("TestMergedHost"),
];

fn main() -> Result<ExitCode> {
    let needs = Needs { programs: Some(Profile::Debug), extras: &[CONFORMANCE], ..Needs::default() };
    harness::main(needs, TESTS)
}

impl Suite {
    const fn of(test: &'static str) -> Self {
        Self { test, ended: OnceLock::new() }
    }

    /// How each of the suite's tests ended.
    fn results(&self, bed: &Bed) -> Result<&[Ended]> {
        let ended = self.ended.get_or_init(|| {
            conformance::run(&bed.place, self.test, None).map_err(|error| format!("{error:#}"))
        });
        Ok(ended.as_ref().map_err(|error| anyhow!("{error}"))?)
    }
}

/// Every test of the suite ran and passed.
fn passes(bed: &Bed, suite: &Suite) -> Result<()> {
    let ended = suite.results(bed)?;
    let others: Vec<String> = ended
        .iter()
        .filter(|test| test.ending != Ending::Passed)
        .map(|test| format!("{} {:?}", test.name, test.ending))
        .collect();
    ensure!(others.is_empty(), "of {} tests, these did not pass: {}", ended.len(), others.join(", "));
    ensure!(
        ended.len() == TESTS_OF_THE_SUITE,
        "{TESTS_OF_THE_SUITE} tests were expected, {} ran",
        ended.len()
    );
    Ok(())
}

/// Prints a table, and how many times as long as we the built-in takes for the long chain.
fn compare_times(bed: &Bed) -> Result<()> {
    let builtin = BUILTIN.results(bed)?;
    let ours = OURS.iter().map(|suite| suite.results(bed)).collect::<Result<Vec<_>>>()?;
    println!(
        "\nOur daemon is a debug build; `cargo xtask bench layers` times a release build. Each of its times has a start and an end of the daemon in it."
    );
    println!(
        "{:<28} {:>9} {}",
        "seconds",
        "built-in",
        OURS.iter().map(|suite| suite.test).collect::<Vec<_>>().join(" ")
    );
    for test in builtin {
        let times: Vec<String> = OURS
            .iter()
            .zip(&ours)
            .map(|(suite, ended)| format!("{:>width$}", shown(ended, &test.name), width = suite.test.len()))
            .collect();
        println!("{:<28} {:>9} {}", test.name, shown(builtin, &test.name), times.join(" "));
    }
    // With templates the client mounts all layers anew for each snapshot, as it does with the built-in's plans.
    let [_, _, host, ..] = &OURS;
    let (ours, theirs) = (time_of(host.results(bed)?, LONG_CHAIN)?, time_of(builtin, LONG_CHAIN)?);
    // Shown and not demanded: a busy machine must not fail a test.
    println!(
        "{LONG_CHAIN}: the built-in takes {:.1} times as long as {}",
        theirs.as_secs_f64() / ours.as_secs_f64(),
        host.test
    );
    Ok(())
}

fn find<'a>(tests: &'a [Ended], name: &str) -> Option<&'a Ended> {
    tests.iter().find(|test| test.name == name)
}

fn shown(tests: &[Ended], name: &str) -> String {
    match find(tests, name) {
        Some(test) if test.ending == Ending::Passed => format!("{:.2}", test.took.as_secs_f64()),
        Some(test) => format!("{:?}", test.ending),
        None => "missing".to_owned(),
    }
}

fn time_of(tests: &[Ended], name: &str) -> Result<Duration> {
    let test = find(tests, name).with_context(|| format!("{name} did not run"))?;
    ensure!(test.ending == Ending::Passed, "{name} did not pass, so its time means nothing");
    Ok(test.took)
}
