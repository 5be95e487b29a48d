//! `cargo xtask bench store`: what calls cost in a small store and in a large one, in turns.

mod calls;
mod fill;
mod report;
mod samples;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nexuserofs_integration::bed::Bed;
use nexuserofs_integration::node::{DaemonOptions, LogLevel, Node, NodeOptions, OVERLAYFS, SNAPSHOTTER};

use self::calls::{Route, Target};
use self::report::{Report, Subject};
use self::samples::Samples;
use super::machine::Setting;
use super::{Corpus, StoreArguments, run_in_bed};

/// containerd namespace of the measurements.
const NAMESPACE: &str = "bench";

/// The profile whose snapshots write to a block.
const BLOCK_PROFILE: &str = "nexuserofs-block";

/// What the daemon's settings file says.
const SETTINGS: &str = "[profiles.nexuserofs-block]\ndefault_size = \"20GiB\"\n";

/// How long the daemon may take to answer after a restart.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long ext4 passes over an inode that was deleted: `RECENCY_MIN` and `RECENCY_DIRTY` of `recently_deleted` in
/// `fs/ext4/ialloc.c`. Filling deletes tens of thousands, and to pass over them would be most of what a new directory costs.
const REUSE_DELAY: Duration = Duration::from_secs(300);

/// Every so many snapshots, one is an active one.
const ACTIVE_SHARE: u32 = 20;

pub(super) fn run(arguments: &StoreArguments) -> Result<ExitCode> {
    run_in_bed(Corpus::Own, arguments.print_only, |bed| measure(bed, arguments))
}

/// A node whose stores hold about the same number of snapshots each.
struct Store {
    node: Node,
    targets: Vec<Target>,
}

fn measure(bed: &Bed, arguments: &StoreArguments) -> Result<Report> {
    let (mut small, mut large) = (Store::fill(bed, arguments.small)?, Store::fill(bed, arguments.large)?);
    eprintln!(
        "waiting {} s, until the file system has forgotten what filling deleted",
        REUSE_DELAY.as_secs()
    );
    rustix::fs::sync();
    thread::sleep(REUSE_DELAY);
    let mut samples: Vec<[Samples; 2]> = small.targets.iter().map(|_| Default::default()).collect();
    for round in 0..arguments.rounds {
        for (target, samples) in samples.iter_mut().enumerate() {
            let [of_small, of_large] = samples;
            let mut turns = [(&small, of_small), (&large, of_large)];
            if round % 2 == 1 {
                turns.reverse();
            }
            for (store, samples) in turns {
                let target = store.targets.get(target).context("the stores have other targets")?;
                calls::round(target, round, samples).with_context(|| format!("in a round of {target}"))?;
            }
        }
    }
    for (target, [of_small, of_large]) in samples.iter_mut().enumerate() {
        small.inside(target, of_small)?;
        large.inside(target, of_large)?;
    }
    let restarts = [small.restart()?, large.restart()?];
    Ok(Report {
        setting: Setting::of(bed)?,
        sizes: [arguments.small, arguments.large],
        rounds: arguments.rounds,
        subjects: subjects(&large.targets, samples),
        restarts,
    })
}

fn subjects(targets: &[Target], samples: Vec<[Samples; 2]>) -> Vec<Subject> {
    let pairs = targets.iter().zip(samples);
    pairs
        .map(|(target, samples)| Subject { name: target.to_string(), route: target.route, samples })
        .collect()
}

impl Store {
    /// Starts a node and fills the store of our daemon and that of containerd's own snapshotter for directories.
    fn fill(bed: &Bed, snapshots: u32) -> Result<Self> {
        let options = NodeOptions {
            daemon: Some(DaemonOptions {
                log_level: LogLevel::Info,
                settings: Some(SETTINGS.to_owned()),
                ..DaemonOptions::default()
            }),
            ..NodeOptions::default()
        };
        let node = Node::start(&bed.place, &format!("store-{snapshots}"), &options)?;
        let daemon = node.daemon.as_ref().context("no daemon")?;
        let filler = fill::Filler::new(&node.containerd, daemon, NAMESPACE)?;
        let active = snapshots / ACTIVE_SHARE;
        let mut targets = Vec::new();
        // The block profile's snapshots are in the same store, so both count.
        let blocks = filler.ours_directly(BLOCK_PROFILE, fill::IMAGE_LAYERS, active / 2)?;
        let directories = active - active / 2;
        let committed = snapshots.saturating_sub(fill::IMAGE_LAYERS + active);
        targets.push(filler.ours_through_containerd(SNAPSHOTTER, committed, directories)?);
        targets.insert(0, blocks);
        targets.insert(0, filler.seen_by_daemon(SNAPSHOTTER)?);
        targets.push(filler.peer(OVERLAYFS, snapshots - active, active)?);
        Ok(Self { node, targets })
    }

    /// Adds what the daemon itself says about its calls.
    fn inside(&self, target: usize, samples: &mut Samples) -> Result<()> {
        let target = self.targets.get(target).context("the stores have other targets")?;
        if target.route == Route::Daemon {
            calls::inside(target, &self.node.daemon.as_ref().context("no daemon")?.calls()?, samples);
        }
        Ok(())
    }

    /// Restarts the daemon and waits for its first answer: its socket takes calls before it can answer them.
    fn restart(&mut self) -> Result<report::Restart> {
        let daemon = self.node.daemon()?;
        let memory_before = samples::resident_bytes(daemon.pid())?;
        daemon.stop()?;
        let begun = Instant::now();
        daemon.restart()?;
        let target = self.targets.first().context("a store without a target")?;
        while target.client.list().is_err() {
            ensure!(begun.elapsed() < PATIENCE, "the daemon does not answer after its restart");
            thread::sleep(Duration::from_millis(1));
        }
        let took = begun.elapsed();
        Ok(report::Restart { took, memory_before, memory_after: samples::resident_bytes(daemon.pid())? })
    }
}

impl Route {
    /// Who answers the calls.
    const fn text(self) -> &'static str {
        match self {
            Self::Daemon => "asked by its own socket, as containerd asks it",
            Self::Containerd => "through containerd's snapshot service",
        }
    }
}
