//! The daemon, killed at random moments of a loop of pulls.
//!
//! `NEXUSEROFS_CRASHES` says how often, `NEXUSEROFS_SEED` repeats a run's moments.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nexuserofs_integration::bed::{Bed, Needs, Profile};
use nexuserofs_integration::command::Run;
use nexuserofs_integration::environment;
use nexuserofs_integration::harness::{self, Test, eventually};
use nexuserofs_integration::node::{Containerd, Daemon, DaemonOptions, Node, NodeOptions, Pull, SNAPSHOTTER};
use nexuserofs_integration::random::Random;

const TESTS: &[Test] = &[Test { name: "killed_at_random_moments", run: kill_again_and_again }];

const NAMESPACE: &str = "crash";

fn main() -> Result<ExitCode> {
    harness::main(Needs { programs: Some(Profile::Debug), ..Needs::default() }, TESTS)
}

fn kill_again_and_again(bed: &Bed) -> Result<()> {
    let crashes: u32 = environment::number("NEXUSEROFS_CRASHES")?.unwrap_or(50);
    let seed = environment::seed()?;
    println!("{crashes} crashes with seed {seed}");
    let mut random = Random::new(seed);

    let options = NodeOptions { daemon: Some(DaemonOptions::default()), ..NodeOptions::default() };
    let mut node = Node::start(&bed.place, "crash", &options)?;
    let image = node.push(&bed.images.demo)?;
    let layers = bed.images.demo.layers()?.len();
    let begun = Instant::now();
    cycle(&node.containerd, &image)?;
    let whole_cycle = begun.elapsed();

    let Node { daemon, containerd, .. } = &mut node;
    let daemon = daemon.as_mut().context("no daemon")?;
    let mut in_the_middle = 0;
    for round in 1..=crashes {
        let moment = whole_cycle.mul_f64(random.fraction());
        kill_during_pulls(daemon, containerd, &image, moment)?;
        in_the_middle += u32::from(has_unfinished_work(daemon)?);
        recover(daemon, containerd, &image, layers)
            .with_context(|| format!("after crash {round}, {moment:?} into a loop of pulls, seed {seed}"))?;
    }
    println!("{in_the_middle} of {crashes} crashes left unfinished work behind");
    ensure!(in_the_middle > 0, "every crash fell between two pulls: the test tests nothing");
    node.assert_nothing_mounted()
}

/// Starts the daemon again: the image can be pulled, is whole, and can be removed without a trace.
fn recover(daemon: &mut Daemon, containerd: &Containerd, image: &str, layers: usize) -> Result<()> {
    daemon.restart()?;
    wait_until_connected(containerd)?;
    containerd.pull(NAMESPACE, SNAPSHOTTER, Pull::Transfer, image)?;
    check_layers(daemon, layers)?;
    containerd.remove_image(NAMESPACE, image)?;
    ensure_nothing_left(daemon, containerd)
}

/// Pulls and removes in a loop until the daemon dies under it.
fn kill_during_pulls(
    daemon: &mut Daemon,
    containerd: &Containerd,
    image: &str,
    moment: Duration,
) -> Result<()> {
    // Pulls can go on without a daemon, and succeed: see `wait_until_connected`.
    let killed = AtomicBool::new(false);
    thread::scope(|scope| {
        let pulls = scope.spawn(|| pull_until(&killed, containerd, image));
        thread::sleep(moment);
        daemon.kill()?;
        killed.store(true, Ordering::SeqCst);
        pulls.join().map_err(|_| anyhow!("the pulling thread panicked"))
    })
}

/// Waits until containerd has dialled the daemon again, for which it takes up to three seconds. A pull before
/// that unpacks nothing and still succeeds: with parallel unpacking, containerd 2.3 drops the error of Prepare.
fn wait_until_connected(containerd: &Containerd) -> Result<()> {
    const PROBE: &str = "probe";
    let snapshots = || containerd.ctr(NAMESPACE).args(["snapshots", "--snapshotter", SNAPSHOTTER]);
    eventually(|| Ok(snapshots().args(["prepare", PROBE]).run().err().map(|error| format!("{error:#}"))))?;
    snapshots().args(["remove", PROBE]).run()
}

/// Whether a dead daemon was making a layer, or had a snapshot that was to be committed.
fn has_unfinished_work(daemon: &Daemon) -> Result<bool> {
    Ok(!daemon.entries("staging")?.is_empty() || !daemon.entries("snapshots")?.is_empty())
}

/// Pulls and removes until it is told to end, or one of the two fails.
fn pull_until(end: &AtomicBool, containerd: &Containerd, image: &str) {
    let mut pulling = true;
    while pulling && !end.load(Ordering::SeqCst) {
        pulling = cycle(containerd, image).is_ok();
    }
}

fn cycle(containerd: &Containerd, image: &str) -> Result<()> {
    containerd.pull(NAMESPACE, SNAPSHOTTER, Pull::Transfer, image)?;
    containerd.remove_image(NAMESPACE, image)
}

/// One whole file per layer of the image, and nothing half-made beside them.
fn check_layers(daemon: &Daemon, expected: usize) -> Result<()> {
    let layers = daemon.layers()?;
    ensure!(layers.len() == expected, "{expected} layers expected, found {layers:?}");
    let entries = daemon.entries("layers")?;
    ensure!(entries.len() == expected, "something besides layers: {entries:?}");
    for layer in layers {
        Run::new("fsck.erofs").arg("--extract").arg(layer).run()?;
    }
    Ok(())
}

fn ensure_nothing_left(daemon: &Daemon, containerd: &Containerd) -> Result<()> {
    let snapshots = containerd.snapshots(NAMESPACE, SNAPSHOTTER)?;
    ensure!(snapshots.is_empty(), "containerd has snapshots left: {snapshots:?}");
    eventually(|| {
        let mut left = Vec::new();
        for directory in ["layers", "snapshots", "staging"] {
            left.extend(daemon.entries(directory)?);
        }
        Ok((!left.is_empty()).then(|| format!("left below the daemon's root: {left:?}")))
    })
}
