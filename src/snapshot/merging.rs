//! The layers that a new snapshot stands on become one image, for profiles that want that.
//!
//! A chain is a pure function of its layers, and takes milliseconds to make: it is made by the first Prepare
//! or View that needs it, and again by a start that misses it. It goes with the first of its layers that
//! goes. As a snapshot keeps its layers, it keeps its chain.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::chain::Chain;
use super::index::Index;
use super::ledger::Ledger;
use super::recovery::{Missing, RecoveryReport};
use super::settings::Profile;
use super::{Error, Snapshotter};
use crate::config::Layers;
use crate::error::{Classify as _, Kind};
use crate::expose::device::{self, Carrier, Form, Layout};
use crate::layer::LayerKey;
use crate::layer::chain::shelf::{Sealed, seal};
use crate::layer::chain::{self, ChainKey, ChainLayer, ChainRecord, Outcome, Part};
use crate::store::staging::StagingArea;

/// Chains that are made at the same time. What all their layers say is in memory meanwhile.
const MERGERS: u8 = 2;

/// The form in which spinbox looks for a chain.
const DESCRIBED: Form = Form { layout: Layout::Merged, carrier: Carrier::Vmdk };
/// The same with the hash tree, for chains that have one.
const VERIFIED: Form = Form { layout: Layout::Verified, carrier: Carrier::Vmdk };

impl Snapshotter {
    /// The chain that a new snapshot of this profile gets its layers as. None if the profile wants them
    /// separate, if there are fewer than two, or if they cannot be merged or mounted as one.
    pub(super) fn merged(&self, profile: &Profile, below: &Chain) -> Result<Option<ChainKey>, Error> {
        if profile.layers == Layers::Separate || below.layers.len() < 2 {
            return Ok(None);
        }
        let ledger = &self.inner.ledger;
        let Some(layers) = ledger.read(|index| parts(index, &below.layers)) else { return Ok(None) };
        let key = ChainKey::of(&layers);
        if !self.places("").fit_options(&key, &below.layers) {
            tracing::warn!(
                chain = %key, "the layers are mounted one by one: a path of theirs is longer than the 255 bytes of a \
                 mount option; give the daemon a root with a shorter path"
            );
            return Ok(None);
        }
        let record = match ledger.chains.get(&key) {
            Some(record) => record,
            None => {
                let _merging = self.inner.mergers.lock(turn(&key));
                merge(ledger, &self.inner.staging, layers)?
            }
        };
        Ok(record.is_merged().then(|| record.key.clone()))
    }
}

/// Whose turn a chain waits for: always the same, so that nobody makes one twice.
fn turn(key: &ChainKey) -> u8 {
    key.as_str().bytes().fold(0, u8::wrapping_add) % MERGERS
}

/// The layers as a chain has them, the oldest first. None if one of them has gone.
fn parts(index: &Index, newest_first: &[LayerKey]) -> Option<Vec<ChainLayer>> {
    let part = |key: &LayerKey| Some(ChainLayer { key: key.clone(), bytes: index.layer(key)?.image_bytes });
    newest_first.iter().rev().map(part).collect()
}

/// Makes a chain and gives it its place, unless it has that already. Nobody else must make the same one.
fn merge(ledger: &Ledger, staging: &StagingArea, layers: Vec<ChainLayer>) -> Result<Arc<ChainRecord>, Error> {
    let key = ChainKey::of(&layers);
    if let Some(record) = ledger.chains.get(&key) {
        return Ok(record);
    }
    let started = Instant::now();
    let part = |layer: &ChainLayer| {
        let verity = ledger.read(|index| index.layer(&layer.key).and_then(|record| record.verity));
        Part { path: ledger.shelf.image(&layer.key), bytes: layer.bytes, verity }
    };
    let built = chain::build(&layers.iter().map(part).collect::<Vec<_>>())?;
    let record = ChainRecord::new(layers, built.outcome.clone());
    log(&record, started);
    let sealed = seal(staging.scratch()?, &built, record.clone())?;
    if record.is_merged() {
        describe(ledger, &sealed, &record)?;
    }
    ledger.exclusively(|index| {
        // A layer that went meanwhile takes its chains with it, of which this one is none yet.
        match record.layers.iter().all(|layer| index.layer(&layer.key).is_some()) {
            true => {
                // Left by an earlier start that found it not whole.
                ledger.trash.discard(&ledger.chains.directory(&key))?;
                ledger.chains.place(sealed)
            }
            false => Ok(()),
        }
    })?;
    ledger.chains.sync()?;
    Ok(Arc::new(record))
}

/// Writes beside the image how a virtual machine gets it with its layers as one disk. Nobody else needs that, so a
/// path that such a description cannot name is no failure.
fn describe(ledger: &Ledger, sealed: &Sealed, record: &ChainRecord) -> Result<(), Error> {
    let home = ledger.chains.directory(&record.key);
    let layers: Vec<_> = record.layers.iter().map(|layer| ledger.shelf.image(&layer.key)).collect();
    let chain = device::Chain { home: &home, metadata: Some(&sealed.image()), layers: &layers };
    let write = |form| device::write(form, chain, sealed.directory(), &mut |_| {});
    let written =
        write(DESCRIBED).and_then(|()| if record.verity().is_some() { write(VERIFIED) } else { Ok(()) });
    match written {
        Err(error) if error.kind() == Kind::FailedPrecondition => {
            let reason =
                std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            tracing::warn!(chain = %record.key, reason, "virtual machines do not get the chain as one disk");
            Ok(())
        }
        done => Ok(done?),
    }
}

fn log(record: &ChainRecord, started: Instant) {
    let (chain, layers) = (&record.key, record.layers.len());
    match &record.outcome {
        Outcome::Merged { image_bytes, .. } => tracing::info!(
            %chain, layers, bytes = image_bytes, duration_ms = started.elapsed().as_secs_f64() * 1e3, "merged layers"
        ),
        Outcome::Unmergeable { unmergeable } => tracing::warn!(
            %chain, layers, reason = unmergeable, "the layers cannot be merged: they are mounted one by one"
        ),
    }
}

/// Takes away the chains that lack a layer, and makes those again that plans name and that are not there.
pub(super) fn restore(ledger: &Ledger, staging: &StagingArea, report: &mut RecoveryReport) {
    let is_whole = |record: &ChainRecord| {
        ledger.read(|index| record.layers.iter().all(|layer| index.layer(&layer.key).is_some()))
    };
    // Their directories are swept, as nothing knows them any more.
    ledger.chains.forget(|record| !is_whole(record));
    for (key, layers) in ledger.read(planned) {
        if ledger.chains.get(&key).is_some_and(|record| record.is_merged()) {
            continue;
        }
        let made = match ledger.read(|index| parts(index, &layers)) {
            None => Err("one of its layers is not there".to_owned()),
            Some(layers) if ChainKey::of(&layers) != key => Err("its layers are others now".to_owned()),
            Some(layers) => {
                merge(ledger, staging, layers).map_err(|error| error.to_string()).and_then(image_of)
            }
        };
        if let Err(reason) = made {
            report.missing.push(Missing::Chain { key, reason });
        }
    }
}

/// That a chain has its image, which plans name, or why it has none.
fn image_of(record: Arc<ChainRecord>) -> Result<(), String> {
    match &record.outcome {
        Outcome::Merged { .. } => Ok(()),
        Outcome::Unmergeable { unmergeable } => Err(unmergeable.clone()),
    }
}

/// The chains that plans name, with their layers, the newest first.
fn planned(index: &Index) -> BTreeMap<ChainKey, Vec<LayerKey>> {
    let lowers = index.snapshots().filter_map(|record| record.lower());
    lowers.filter_map(|lower| Some((lower.merged.clone()?, lower.layers.clone()))).collect()
}
