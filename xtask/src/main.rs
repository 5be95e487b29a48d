//! The project's habits: `cargo xtask VERB`.

mod bars;
mod bench;
mod cargo_tools;
mod demo;
mod demo_vm;
mod fuzz;
mod host;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use nexuserofs_integration::guest::init;

/// What people and machines do with this project again and again. Every verb installs what it needs
/// (Debian, as root) and keeps it in ~/.cache/nexuserofs.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Pull a real image through containerd into EROFS layers and run it, beside containerd's own snapshotter.
    Demo(Demo),
    /// Run the tests, tier by tier, quick ones first.
    Test(test::Arguments),
    /// Measure, and write the result to docs/benchmarks.md.
    #[command(subcommand)]
    Bench(bench::Arguments),
    /// Feed arbitrary bytes to the readers of foreign input.
    Fuzz(fuzz::Arguments),
    /// Make the test host ahead of time, or remove what was made.
    #[command(subcommand)]
    Host(host::Arguments),
}

#[derive(Debug, Args)]
struct Demo {
    /// Run it in a virtual machine that trusts a signed list of the layers only, and show what it wrote.
    #[arg(long)]
    vm: bool,
}

fn main() -> Result<ExitCode> {
    // A benchmark carries this program into guests.
    init::become_first_process();
    match Arguments::parse().verb {
        Verb::Demo(Demo { vm: false }) => demo::run(),
        Verb::Demo(Demo { vm: true }) => demo_vm::run(),
        Verb::Test(arguments) => test::run(&arguments),
        Verb::Bench(arguments) => bench::run(&arguments),
        Verb::Fuzz(arguments) => fuzz::run(&arguments),
        Verb::Host(arguments) => host::run(&arguments),
    }
}
