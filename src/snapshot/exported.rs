//! The disks of snapshots whose plans name sockets.
//!
//! They are served from the moment that a plan is given out, again after a start, and until the snapshot is removed or
//! committed.

use super::Error;
use super::ledger::Ledger;
use super::model::QUIESCED_LABEL;
use super::record::{Active, Record, State};
use crate::expose::device::Layout;
use crate::expose::export::{Ending, Image, Layer, Metadata, Wanted, place::Owner};
use crate::expose::plan::{Flavour, Lower, Writable};
use crate::layer::chain::ChainKey;

/// Queues of each disk: a small guest has two processors, and a thread costs little.
const QUEUES: u16 = 2;

/// Sees to it that the disks in the plan of this snapshot are served.
pub(super) fn attach(ledger: &Ledger, record: &Record) -> Result<(), Error> {
    let Some(wanted) = wanted(ledger, record)? else { return Ok(()) };
    let id = record.id.to_string();
    ledger.exports.ensure(&id, wanted)?;
    // It may have been committed or removed since the caller looked, and what that ended is here again.
    match ledger.read(|index| index.by_id(record.id).map(|record| record.state.clone())) {
        Some(State::View(_) | State::Active(_)) => {}
        // A virtual machine that was quiet meanwhile has it still.
        Some(State::Committed(_)) => ledger.exports.leave(&id),
        // A layer is being made of the block, which nobody may have.
        Some(State::Unsealed(_)) | None => ledger.exports.end(&id)?,
    }
    Ok(())
}

/// Ends what serves the disks of a snapshot that is not any more.
pub(super) fn detach(ledger: &Ledger, record: &Record) {
    if let Err(error) = ledger.exports.end(&record.id.to_string()) {
        tracing::warn!(%error, key = %record.key, "what served a snapshot's disks is not gone: the next start tries again");
    }
}

/// Takes the writable block back before it becomes a layer. A virtual machine that has it keeps it: then there is
/// nothing that could be committed, or it promised to write nothing.
pub(super) fn take_back(ledger: &Ledger, record: &Record, is_of_quiet_guest: bool) -> Result<(), Error> {
    if disks(record).is_none() || record.labels.contains_key(QUIESCED_LABEL) {
        return Ok(());
    }
    match ledger.exports.end_unless_connected(&record.id.to_string())? {
        Ending::Connected if !is_of_quiet_guest => Err(Error::BlockHeld { key: record.key.clone() }),
        Ending::Connected | Ending::Ended => Ok(()),
    }
}

/// Whether a process of ours serves what this snapshot writes to, or is about to again.
pub(super) fn has_block(record: &Record) -> bool {
    disks(record).is_some_and(|(_, has_block)| has_block)
}

/// After a commit: what a virtual machine still has is served on, but not again.
pub(super) fn leave(ledger: &Ledger, record: &Record) {
    ledger.exports.leave(&record.id.to_string());
}

/// Ends what an earlier daemon had served, and no snapshot has any more. What a virtual machine kept through a commit
/// stays, as [`leave`] says.
pub(super) fn sweep(ledger: &Ledger) -> Result<(), Error> {
    let is_known = |id: &str| {
        let record = id.parse().ok().and_then(|id| ledger.read(|index| index.by_id(id).cloned()));
        record.is_some_and(|record| disks(&record).is_some() || matches!(record.state, State::Committed(_)))
    };
    Ok(ledger.exports.sweep(is_known)?)
}

/// What a plan with disks is made of, and whether a block is among them.
fn disks(record: &Record) -> Option<(&Lower, bool)> {
    let (lower, has_block) = match &record.state {
        State::View(lower) => (lower, false),
        State::Active(Active { lower, writable, .. }) => (lower, *writable == Writable::Block),
        State::Committed(_) | State::Unsealed(_) => return None,
    };
    let has_disk = has_block || !lower.layers.is_empty();
    (lower.flavour == Flavour::VhostUser && has_disk).then_some((lower, has_block))
}

fn wanted(ledger: &Ledger, record: &Record) -> Result<Option<Wanted>, Error> {
    let Some((lower, has_block)) = disks(record) else { return Ok(None) };
    let owner = Owner { profile: record.profile.clone(), key: record.key.clone() };
    let image = lower.disk_layout().map(|layout| image(ledger, record, lower, layout)).transpose()?;
    let writable = has_block.then(|| ledger.directories.block(record.id));
    Ok(Some(Wanted { owner, image, writable, queues: QUEUES }))
}

fn image(ledger: &Ledger, record: &Record, lower: &Lower, layout: Layout) -> Result<Image, Error> {
    let metadata = lower.merged.as_ref().map(|chain| metadata(ledger, record, lower, chain)).transpose()?;
    let layers = lower.layers.iter().rev().map(|key| Layer {
        path: ledger.shelf.image(key),
        verity: ledger
            .read(|index| index.layer(key).and_then(|layer| layer.verity))
            .filter(|_| lower.verity.contains(key)),
    });
    Ok(Image { layout, metadata, layers: layers.collect() })
}

/// The merged metadata, with its hash tree where all layers are checked. A layer without a tree leaves it without one.
fn metadata(ledger: &Ledger, record: &Record, lower: &Lower, chain: &ChainKey) -> Result<Metadata, Error> {
    let path = ledger.chains.image(chain);
    if !lower.layers.iter().all(|layer| lower.verity.contains(layer)) {
        return Ok(Metadata { path, verity: None });
    }
    match ledger.chains.get(chain).and_then(|chain| chain.verity()) {
        None if ledger.must_check(&record.profile) => Err(Error::NoMergedTree { chain: chain.clone() }),
        verity => Ok(Metadata { path, verity }),
    }
}
