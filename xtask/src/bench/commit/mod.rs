//! `cargo xtask bench commit`: what Commit of a written snapshot takes while eight layers are unpacked beside it.

mod report;
mod scene;

use std::process::ExitCode;

use anyhow::Result;
use nexuserofs_integration::bed::Bed;
use nexuserofs_integration::node::{
    BUILTIN_EROFS, DaemonOptions, LogLevel, Node, NodeOptions, OVERLAYFS, SNAPSHOTTER,
};

use self::report::{Report, Row};
use self::scene::Scene;
use super::machine::Setting;
use super::{Corpus, RoundsArguments, run_in_bed};

/// Who is measured: ours, then the peers.
const CONTENDERS: [&str; 3] = [SNAPSHOTTER, BUILTIN_EROFS, OVERLAYFS];

pub(super) fn run(arguments: &RoundsArguments) -> Result<ExitCode> {
    run_in_bed(Corpus::Own, arguments.print_only, |bed| measure_all(bed, arguments.rounds))
}

fn measure_all(bed: &Bed, rounds: u32) -> Result<Report> {
    let options = NodeOptions {
        daemon: Some(DaemonOptions { log_level: LogLevel::Info, ..DaemonOptions::default() }),
        ..NodeOptions::default()
    };
    let node = Node::start(&bed.place, "commit", &options)?;
    let scene = Scene::new(&node)?;
    let mut rows: Vec<Row> = CONTENDERS.iter().map(|&snapshotter| Row::new(snapshotter)).collect();
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        for row in &mut rows {
            scene.alone(row.snapshotter, &mut row.alone)?;
            row.pulls.push(scene.beside_pulls(row.snapshotter, &mut row.beside)?);
        }
        rows.reverse();
    }
    rows.sort_by_key(|row| CONTENDERS.iter().position(|&snapshotter| snapshotter == row.snapshotter));
    Ok(Report { setting: Setting::of(bed)?, rounds, rows })
}
