//! A randomised client against the daemon, for as long as `NEXUSEROFS_SOAK_SECONDS` says.
//!
//! Each run prints its seed; `NEXUSEROFS_SEED` repeats the steps of an earlier run.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use nexuserofs_integration::bed::{Bed, Needs, Profile};
use nexuserofs_integration::environment;
use nexuserofs_integration::harness::{self, Test};
use nexuserofs_integration::node::DaemonOptions;
use nexuserofs_integration::soak::Soak;

const TESTS: &[Test] = &[
    Test { name: "directory_mode", run: |bed| soak(bed, "soak-directory", None) },
    Test { name: "block_mode", run: |bed| soak(bed, "soak-block", Some("64MiB")) },
];

/// How long all tests together take unless the environment says otherwise, in seconds.
const SECONDS: u64 = 60;

fn main() -> Result<ExitCode> {
    harness::main(Needs { programs: Some(Profile::Debug), ..Needs::default() }, TESTS)
}

fn soak(bed: &Bed, name: &str, default_size: Option<&'static str>) -> Result<()> {
    let seconds = environment::number("NEXUSEROFS_SOAK_SECONDS")?.unwrap_or(SECONDS);
    let seed = environment::seed()?;
    let how_long = Duration::from_secs(seconds) / u32::try_from(TESTS.len())?;
    println!("{name}: {} s with seed {seed}", how_long.as_secs());
    let options = DaemonOptions { default_size, ..DaemonOptions::default() };
    let soak = Soak::start(bed, name, options, seed)?;
    soak.run(how_long).with_context(|| format!("seed {seed}"))
}
