//! `cargo xtask fuzz`: the targets in `fuzz/`, built with coverage on the stable compiler.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Args;
use nexuserofs_integration::bed;
use nexuserofs_integration::cache::Cache;
use nexuserofs_integration::command::Run;
use nexuserofs_integration::machine::{self, Package};
use nexuserofs_integration::progress::{Outcome, Steps};
use serde::Deserialize;

use crate::bars::Bars;
use crate::test::Count;

/// Where the targets are, below the project.
pub(crate) const DIRECTORY: &str = "fuzz";

/// Coverage feedback for libFuzzer without a nightly compiler: what cargo-fuzz passes, less the sanitizer.
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Clink-dead-code";

/// What every run is held to. Memory may not grow with what an archive claims: 512 MiB in all, 64 MiB in one
/// piece, for inputs of up to 16 KiB; and no input may take 30 seconds.
const LIMITS: [&str; 4] = ["-max_len=16384", "-rss_limit_mb=512", "-malloc_limit_mb=64", "-timeout=30"];

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only these targets, by the names of their files in `fuzz/fuzz_targets`. Without a name, all.
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// How long each target runs.
    #[arg(long, value_name = "N", default_value_t = 600)]
    seconds: u32,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let count = run_targets(&Cache::open()?, &arguments.targets, arguments.seconds)?;
    println!("{count}");
    Ok(if count.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs every target for this long and counts those that were clean.
pub(crate) fn all(cache: &Cache, seconds: u32) -> Result<Count> {
    run_targets(cache, &[], seconds)
}

/// Runs targets, all if none is named, from the seeds and the corpus that earlier runs found.
fn run_targets(cache: &Cache, names: &[String], seconds: u32) -> Result<Count> {
    let bars = Bars::new(2);
    let steps = Steps::new(&bars);
    // libFuzzer itself is C++.
    steps.run("C++ compiler", || machine::install(&[Package { name: "g++", provides: "c++" }]))?;
    let mut targets = steps.run("fuzz targets", || Ok((build(names)?, Outcome::Done)))?;
    drop(bars);
    ensure!(!targets.is_empty(), "{DIRECTORY}/Cargo.toml names no fuzz target");
    targets.sort();
    let mut count = Count::default();
    for target in targets {
        count += fuzz(&target, cache, seconds)?;
    }
    Ok(count)
}

/// What we read of `cargo build --message-format=json`.
#[derive(Debug, Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    target: Option<Target>,
}

#[derive(Debug, Deserialize)]
struct Target {
    src_path: PathBuf,
}

impl Message {
    /// The program, if the message is about a fuzz target and not about a helper beside them.
    fn fuzz_target(self) -> Option<PathBuf> {
        let directory = self.target?.src_path.parent()?.to_owned();
        self.executable.filter(|_| directory.ends_with("fuzz_targets"))
    }
}

fn build(names: &[String]) -> Result<Vec<PathBuf>> {
    let wanted = match names {
        [] => vec!["--bins"],
        names => names.iter().flat_map(|name| ["--bin", name]).collect(),
    };
    let messages = Run::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        // With a target named, RUSTFLAGS leave build scripts and macros alone.
        .args(["build", "--release", "--target=x86_64-unknown-linux-gnu", "--message-format=json"])
        .args(wanted)
        .dir(bed::project().join(DIRECTORY))
        .env("RUSTFLAGS", COVERAGE)
        .output()?;
    let mut programs = Vec::new();
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let message: Message = serde_json::from_str(line).context("message of cargo build")?;
        programs.extend(message.fuzz_target());
    }
    Ok(programs)
}

fn fuzz(target: &Path, cache: &Cache, seconds: u32) -> Result<Count> {
    let name = target.file_name().unwrap_or_default();
    let corpus = cache.root().join("corpus").join(name);
    std::fs::create_dir_all(&corpus)?;
    println!("fuzzing {} for {seconds} s", name.display());
    let mut command = Command::new(target);
    command
        .arg(format!("-max_total_time={seconds}"))
        .args(LIMITS)
        .args(["-print_final_stats=1", "-print_funcs=0", "-verbosity=0"])
        .arg(format!("-artifact_prefix={}/", cache.root().display()))
        .arg(&corpus);
    // Inputs that the project keeps are where every run starts from.
    let seeds = bed::project().join(DIRECTORY).join("seeds").join(name);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    Count::of_check(command)
}
