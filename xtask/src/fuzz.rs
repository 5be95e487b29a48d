//! `cargo xtask fuzz`: the targets in `fuzz/`, built with coverage on the stable compiler.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Args;
use nexuserofs_integration::bed;
use nexuserofs_integration::cache::Cache;
use nexuserofs_integration::command::Run;
use nexuserofs_integration::machine::{self, Package};
use nexuserofs_integration::progress::Steps;
use serde::Deserialize;

use crate::bars::Bars;

/// Where the targets are, below the project.
pub(crate) const DIRECTORY: &str = "fuzz";

/// Coverage feedback for libFuzzer without a nightly compiler: what cargo-fuzz passes, less the sanitizer.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Cdebug-assertions=on -Ccodegen-units=1";

/// Most memory that a target may use for any input, and take at once, in MiB.
const MEMORY: u32 = 512;
const ALLOCATION: u32 = 64;
/// Longest input in bytes: some dozens of members.
const LENGTH: u32 = 16_384;
/// Longest time that a target may take for one input, in seconds.
const PATIENCE: u32 = 30;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How long each target runs.
    #[arg(long, value_name = "N", default_value_t = 600)]
    seconds: u32,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let clean = all(&Cache::open()?, arguments.seconds)?;
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs every target for this long, with the corpus that earlier runs found, and tells whether all were clean.
pub(crate) fn all(cache: &Cache, seconds: u32) -> Result<bool> {
    let bars = Bars::new(2);
    let steps = Steps::new(&bars);
    // libFuzzer itself is C++.
    steps.run("C++ compiler", || machine::install(&[Package { name: "g++", provides: "c++" }]))?;
    let targets =
        steps.run("fuzz targets", || Ok((build()?, nexuserofs_integration::progress::Outcome::Done)))?;
    drop(bars);
    ensure!(!targets.is_empty(), "{DIRECTORY}/Cargo.toml names no fuzz target");
    let mut clean = true;
    for target in targets {
        clean &= fuzz(&target, cache, seconds)?;
    }
    Ok(clean)
}

/// What we read of `cargo build --message-format=json`.
#[derive(Debug, Deserialize)]
struct Message {
    executable: Option<PathBuf>,
}

fn build() -> Result<Vec<PathBuf>> {
    let messages = Run::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        // With a target named, RUSTFLAGS leave build scripts and macros alone.
        .args(["build", "--release", "--target=x86_64-unknown-linux-gnu", "--bins", "--message-format=json"])
        .dir(bed::project().join(DIRECTORY))
        .env("RUSTFLAGS", COVERAGE)
        .output()?;
    let mut programs = Vec::new();
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let message: Message = serde_json::from_str(line).context("message of cargo build")?;
        programs.extend(message.executable);
    }
    Ok(programs)
}

fn fuzz(target: &PathBuf, cache: &Cache, seconds: u32) -> Result<bool> {
    let name = target.file_name().unwrap_or_default();
    let corpus = cache.root().join("corpus").join(name);
    std::fs::create_dir_all(&corpus)?;
    println!("fuzzing {} for {seconds} s", name.display());
    let mut command = Command::new(target);
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-rss_limit_mb={MEMORY}"))
        .arg(format!("-malloc_limit_mb={ALLOCATION}"))
        .arg(format!("-max_len={LENGTH}"))
        .arg(format!("-timeout={PATIENCE}"))
        .args(["-print_final_stats=1", "-verbosity=0"])
        .arg(format!("-artifact_prefix={}/", cache.root().display()))
        .arg(&corpus);
    // Inputs that the project keeps are where every run starts from.
    let seeds = bed::project().join(DIRECTORY).join("seeds").join(name);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    Ok(command.status().with_context(|| format!("start {}", target.display()))?.success())
}
