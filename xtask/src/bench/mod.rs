//! `cargo xtask bench`.

mod commit;
mod layers;
mod machine;
mod merge;
mod page;
mod report;
mod rounds;
mod store;
mod unpack;
mod verdict;
mod verity;
mod vhost;

use std::fmt::Display;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use nexuserofs_integration::bed::{self, Bed, Needs, Profile};
use nexuserofs_integration::host::tools::CONFORMANCE;
use nexuserofs_integration::progress::Steps;

use crate::bars::{self, Bars};

#[derive(Debug, Subcommand)]
pub(crate) enum Arguments {
    /// Our differ and containerd's erofs differ, in turns on the same layers through the same containerd.
    Unpack(RoundsArguments),
    /// What dm-verity trees and the immutable attribute add to the pass, and the same against containerd's differ.
    Verity(RoundsArguments),
    /// An image of many layers as one merged mount and as one mount for each layer; and the merging, beside mkfs.erofs's.
    Merge(MergeArguments),
    /// Commit of a written snapshot while eight layers are unpacked, beside containerd's own snapshotters.
    Commit(RoundsArguments),
    /// The test of containerd's own suite that mounts up to 128 layers, beside its built-in erofs snapshotter.
    Layers(RoundsArguments),
    /// What calls cost in a store of 100 and in one of 10,000 snapshots, beside containerd's overlayfs.
    Store(StoreArguments),
    /// An image behind a vhost-user socket: our exporter and qemu-storage-daemon, without and with a guest.
    Vhost(VhostArguments),
}

#[derive(Debug, Args)]
pub(crate) struct RoundsArguments {
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

#[derive(Debug, Args)]
pub(crate) struct VhostArguments {
    /// Rounds of each measurement; the median counts.
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
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
        Arguments::Commit(arguments) => commit::run(arguments),
        Arguments::Layers(arguments) => layers::run(arguments),
        Arguments::Store(arguments) => store::run(arguments),
        Arguments::Vhost(arguments) => vhost::run(arguments),
    }
}

/// Which layers a benchmark measures with, beside what it makes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Corpus {
    /// None.
    Own,
    /// The large ones that `bench unpack` has.
    Large,
    /// Those that containerd's own suite makes.
    Suite,
}

/// Measures in a test bed with release builds, prints the section that comes of it, and unless it is only to be
/// printed puts it into docs/benchmarks.md.
fn run_in_bed<R: Display>(
    corpus: Corpus,
    print_only: bool,
    measure: impl FnOnce(&Bed) -> Result<R>,
) -> Result<ExitCode> {
    let bench = corpus == Corpus::Large;
    let bars = Bars::new(if bench { 14 } else { 8 });
    let steps = Steps::new(&bars);
    let extras: &[_] = if corpus == Corpus::Suite { &[CONFORMANCE] } else { &[] };
    let needs = Needs { programs: Some(Profile::Release), bench, extras, ..Needs::default() };
    bed::run(needs, &steps, bars::summary, |bed| {
        let section = measure(&bed)?.to_string();
        println!("{section}");
        if !print_only {
            page::put(&bed.place.project, &section)?;
        }
        Ok(ExitCode::SUCCESS)
    })
}
