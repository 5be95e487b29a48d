//! `cargo xtask bench`.

mod machine;
mod merge;
mod page;
mod report;
mod rounds;
mod store;
mod unpack;
mod verdict;
mod verity;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum Arguments {
    /// Our differ and containerd's erofs differ, in turns on the same layers through the same containerd.
    Unpack(UnpackArguments),
    /// What dm-verity trees and the immutable attribute add to the pass, and the same against containerd's differ.
    Verity(UnpackArguments),
    /// An image of many layers as one merged mount and as one mount for each layer; and the merging, beside mkfs.erofs's.
    Merge(MergeArguments),
    /// What calls cost in a store of 100 and in one of 10,000 snapshots, beside containerd's overlayfs.
    Store(StoreArguments),
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

#[derive(Debug, Args)]
pub(crate) struct MergeArguments {
    /// Layers of the image.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=128))]
    layers: u32,
    /// Rounds of each measurement; the median counts.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only print the result, and leave docs/benchmarks.md alone.
    #[arg(long)]
    print_only: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StoreArguments {
    /// Snapshots in the small store.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(100..))]
    small: u32,
    /// Snapshots in the large store.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..))]
    large: u32,
    /// How often each call is measured; List and garbage collection one twentieth of that.
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only print the result, and leave docs/benchmarks.md alone.
    #[arg(long)]
    print_only: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    match arguments {
        Arguments::Unpack(arguments) => unpack::run(arguments),
        Arguments::Verity(arguments) => verity::run(arguments),
        Arguments::Merge(arguments) => merge::run(arguments),
        Arguments::Store(arguments) => store::run(arguments),
    }
}
