//! `cargo xtask bench unpack`: what is measured against what.

use std::process::ExitCode;

use anyhow::{Context, Result};
use nexuserofs_integration::bed::Bed;
use nexuserofs_integration::images::bench::Layers;
use nexuserofs_integration::images::{Image, Layer};
use nexuserofs_integration::node::containerd::Peer;
use nexuserofs_integration::node::{BUILTIN_EROFS, DaemonOptions, LogLevel, Node, NodeOptions, SNAPSHOTTER};
use nexuserofs_integration::unpack::Durability;

use super::machine::Setting;
use super::report::{Report, Row};
use super::rounds::{Contender, Times, measure};
use super::{Corpus, RoundsArguments, run_in_bed};

/// containerd namespace of the measurements.
pub(super) const NAMESPACE: &str = "bench";

/// From this many entries on, containerd's default options take so long that one round must do.
const SLOW_ENTRIES: u32 = 20_000;

/// A snapshotter, and what happens to its file before the commit.
type Who = (&'static str, Durability);

const OURS: Who = (SNAPSHOTTER, Durability::AsIs);
const PEER: Who = (BUILTIN_EROFS, Durability::AsIs);
const PEER_SYNCED: Who = (BUILTIN_EROFS, Durability::Synced);

pub(super) fn run(arguments: &RoundsArguments) -> Result<ExitCode> {
    run_in_bed(Corpus::Large, arguments.print_only, |bed| measure_all(bed, arguments.rounds))
}

fn measure_all(bed: &Bed, rounds: u32) -> Result<Report> {
    let layers = bed.images.bench.as_ref().context("the layers of the benchmark were not made")?;
    let mut report = Report {
        setting: Setting::of(bed)?,
        rounds,
        single: Vec::new(),
        together: Vec::new(),
        entries: Vec::new(),
    };
    for peer in [Peer::Default, Peer::Tuned] {
        measure_against(bed, peer, layers, &mut report)?;
    }
    Ok(report)
}

/// Everything against containerd's differ with one tuning, through one containerd.
fn measure_against(bed: &Bed, peer: Peer, layers: &Layers, report: &mut Report) -> Result<()> {
    let rounds = report.rounds;
    let options = NodeOptions {
        daemon: Some(DaemonOptions { log_level: LogLevel::Info, ..DaemonOptions::default() }),
        peer,
        ..NodeOptions::default()
    };
    let node = Node::start(&bed.place, &format!("bench-{peer:?}"), &options)?;
    let mut together = Vec::new();
    for image in &layers.real {
        let fetched = fetch(&node, image)?;
        report.single.push(row(image.name, peer, &fetched, &node, &[OURS, PEER, PEER_SYNCED], rounds)?);
        together.extend(fetched);
    }
    report.together.push(row("all three", peer, &together, &node, &[OURS, PEER, PEER_SYNCED], rounds)?);
    for (entries, image) in &layers.directories {
        let slow = peer == Peer::Default && *entries >= SLOW_ENTRIES;
        let fetched = fetch(&node, image)?;
        report.entries.push(row(
            image.name,
            peer,
            &fetched,
            &node,
            &[OURS, PEER],
            if slow { 1 } else { rounds },
        )?);
    }
    Ok(())
}

/// Brings an image's content into containerd's store.
pub(super) fn fetch(node: &Node, image: &Image) -> Result<Vec<Layer>> {
    let reference = node.push(image)?;
    node.containerd.fetch(NAMESPACE, &reference)?;
    image.layers()
}

fn row(
    name: &'static str,
    peer: Peer,
    layers: &[Layer],
    node: &Node,
    who: &[Who],
    rounds: u32,
) -> Result<Row> {
    eprintln!("measuring {name} against {peer:?}, {rounds} rounds");
    let contenders: Vec<Contender<'_>> =
        who.iter().map(|&(snapshotter, durability)| Contender { node, snapshotter, durability }).collect();
    let times: Vec<Times> = measure(&contenders, layers, rounds)?;
    Ok(Row { name, peer, bytes: layers.iter().map(|layer| layer.blob.size).sum(), rounds, times })
}
