//! `cargo xtask bench`.

mod machine;
mod report;
mod rounds;
mod unpack;
mod verdict;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum Arguments {
    /// Our differ and containerd's erofs differ, in turns on the same layers through the same containerd.
    Unpack(UnpackArguments),
}

#[derive(Debug, Args)]
pub(crate) struct UnpackArguments {
    /// Rounds of each measurement; the median counts.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only print the result, and leave docs/benchmarks.md alone.
    #[arg(long)]
    print_only: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    match arguments {
        Arguments::Unpack(arguments) => unpack::run(arguments),
    }
}
