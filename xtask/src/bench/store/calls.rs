//! The calls that are measured, and one round of them.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nexuserofs_integration::client::{Client, Labels};
use nexuserofs_integration::node::log;

use super::samples::Samples;

/// Snapshots that are removed before garbage is collected.
const GARBAGE: u32 = 20;

/// One of so many rounds has the calls that cost as much as a thousand others.
const RARELY: u32 = 20;

/// Begins the keys of snapshots whose making is measured.
const MEASURED: &str = "measured-";

/// A call that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Call {
    /// Stat of a committed snapshot.
    Stat,
    /// Usage of a committed snapshot.
    UsageCommitted,
    /// Usage of a container's snapshot.
    UsageActive,
    /// Prepare for a container.
    Prepare,
    /// The same, as the daemon's log times it.
    PrepareInside,
    /// Mounts of that.
    Mounts,
    /// Prepare for a container on 128 layers.
    PrepareDeep,
    /// Mounts of that.
    MountsDeep,
    /// Remove of a container's snapshot.
    Remove,
    /// Cleanup after it.
    Cleanup,
    /// List, for each snapshot in the answer.
    List,
    /// Remove and garbage collection, for each snapshot removed.
    Collect,
}

/// Who answers, which decides what can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// The daemon.
    Daemon,
    /// containerd, on whose own records every call works too.
    Containerd,
}

/// A snapshotter with a filled store, and names in it.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) client: Client,
    pub(super) route: Route,
    /// Top of the image that calls are about.
    pub(super) image: String,
    /// Top of an image of 128 layers, if the store is large enough.
    pub(super) deep_image: Option<String>,
    pub(super) committed: Vec<String>,
    pub(super) active: Vec<String>,
}

impl Target {
    /// A store in which nothing is known yet.
    pub(super) fn new(client: Client, route: Route) -> Self {
        let (committed, active) = (Vec::new(), Vec::new());
        Self { client, route, image: String::new(), deep_image: None, committed, active }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.client.snapshotter(), self.route.text())
    }
}

/// Makes each call once, on other snapshots in each round.
pub(super) fn round(target: &Target, round: u32, samples: &mut Samples) -> Result<()> {
    let client = &target.client;
    let (committed, active) = (pick(&target.committed, round)?, pick(&target.active, round)?);
    samples.time(Call::Stat, || client.stat(committed))?;
    samples.time(Call::UsageCommitted, || client.usage(committed))?;
    samples.time(Call::UsageActive, || client.usage(active))?;
    let key = format!("{MEASURED}{round}");
    samples.time(Call::Prepare, || client.prepare(&key, &target.image, &Labels::new()))?;
    samples.time(Call::Mounts, || client.mounts(&key))?;
    match target.route {
        Route::Daemon => {
            samples.time(Call::Remove, || client.remove(&key))?;
            samples.time(Call::Cleanup, || client.cleanup())?;
        }
        Route::Containerd => client.remove(&key)?,
    }
    deep(target, round, samples)?;
    if round.is_multiple_of(RARELY) { rare(target, samples) } else { Ok(()) }
}

/// What the daemon's log says about the calls that were made to it.
pub(super) fn inside(target: &Target, calls: &[log::Call], samples: &mut Samples) {
    let measured = |call: &&log::Call| {
        call.method == "Prepare"
            && call.key.starts_with(MEASURED)
            && call.snapshotter.as_deref() == Some(target.client.snapshotter())
    };
    calls.iter().filter(measured).for_each(|call| samples.add(Call::PrepareInside, call.took));
}

/// Calls on the largest image; without effect on a store that has none.
fn deep(target: &Target, round: u32, samples: &mut Samples) -> Result<()> {
    let Some(image) = &target.deep_image else { return Ok(()) };
    let client = &target.client;
    let key = format!("deep-{round}");
    samples.time(Call::PrepareDeep, || client.prepare(&key, image, &Labels::new()))?;
    samples.time(Call::MountsDeep, || client.mounts(&key))?;
    Ok(client.remove(&key)?)
}

/// Calls that cost as much as a thousand others.
fn rare(target: &Target, samples: &mut Samples) -> Result<()> {
    let begun = Instant::now();
    let infos = target.client.list()?;
    samples.add(Call::List, begun.elapsed() / u32::try_from(infos.len())?.max(1));
    if target.route == Route::Containerd {
        samples.add(Call::Collect, collect(target)? / GARBAGE);
    }
    Ok(())
}

/// Removes snapshots and has garbage collected, which is when containerd tells the snapshotter.
fn collect(target: &Target) -> Result<Duration> {
    let client = &target.client;
    client.collect_garbage()?;
    let keys: Vec<String> = (0..GARBAGE).map(|number| format!("garbage-{number}")).collect();
    for key in &keys {
        client.prepare(key, &target.image, &Labels::new())?;
    }
    let begun = Instant::now();
    keys.iter().try_for_each(|key| client.remove(key))?;
    client.collect_garbage()?;
    Ok(begun.elapsed())
}

/// One of the names, another in each round and not in the order of their making.
fn pick(names: &[String], round: u32) -> Result<&str> {
    const STRIDE: usize = 7919;
    let index = (round as usize).wrapping_mul(STRIDE).checked_rem(names.len());
    index.and_then(|index| names.get(index)).map(String::as_str).context("a store without such snapshots")
}
