//! What plans need beside files, and when it is made: in the host flavour, mounts.
//!
//! A snapshot's mounts are made after its record, and again by whatever asks for its plan: so a record
//! never lacks them for long, and no mount lacks a record. They go with the record too: the layers'
//! with the layer, a block's with the snapshot's directory, both by way of the trash.

use std::collections::BTreeMap;

use nexuserofs_guest::verity::Parameters;

use super::Error;
use super::exported;
use super::index::Index;
use super::ledger::Ledger;
use super::record::{Active, Record, State};
use super::treeless;
use crate::expose::host::shifted::mount_shifted;
use crate::expose::host::{Adoption, Integrity, Known, MountName, Subject, Wanted, What, mounting};
use crate::expose::plan::{BLOCK_MOUNT_NAME, BLOCK_NAME, Flavour, Lower, SHIFTED_NAME, Writable};
use crate::layer::{LayerKey, LayerRecord};

/// Mounts what the plan of this snapshot names, where it is not mounted yet.
pub(super) fn attach(ledger: &Ledger, record: &Record) -> Result<(), Error> {
    exported::attach(ledger, record)?;
    let Some((lower, names)) = host_lower(record) else { return Ok(()) };
    ledger.mounts.ensure(wanted(ledger, record, lower, names)?)?;
    let directory = ledger.directories.of(record.id);
    if let Some(mapping) = lower.mapping.as_ref().filter(|_| !names.is_empty()) {
        let layers = names.iter().map(|name| ledger.mounts.point(name));
        mount_shifted(layers, &directory.join(SHIFTED_NAME), mapping)?;
    }
    if matches!(&record.state, State::Active(Active { writable: Writable::Block, .. })) {
        mounting::mount_block(&directory.join(BLOCK_NAME), &directory.join(BLOCK_MOUNT_NAME))?;
    }
    Ok(())
}

/// What the plan of this snapshot needs mounted.
fn wanted<'a>(
    ledger: &Ledger,
    record: &Record,
    lower: &'a Lower,
    names: &'a [MountName],
) -> Result<Vec<Wanted<'a>>, Error> {
    if let Some(chain) = &lower.merged {
        let what = What::Chain(chain, &lower.layers);
        return Ok(names.iter().map(|name| Wanted { what: what.clone(), name }).collect());
    }
    let layer = |(layer, name)| {
        Ok(Wanted { what: What::Layer(layer, integrity(ledger, record, lower, layer)?), name })
    };
    lower.layers.iter().zip(names).map(layer).collect()
}

/// How a layer of this snapshot is to be mounted. The plan says whether it is to be checked, and the profile as it
/// is now whether it is mounted at all where it cannot be.
fn integrity(ledger: &Ledger, record: &Record, lower: &Lower, layer: &LayerKey) -> Result<Integrity, Error> {
    if !lower.verity.contains(layer) {
        return Ok(Integrity::Unchecked);
    }
    let parameters = ledger.read(|index| index.layer(layer).and_then(|record| parameters(record)));
    match (parameters, ledger.must_check(&record.profile)) {
        (Some(parameters), true) => Ok(Integrity::Required(parameters)),
        (Some(parameters), false) => Ok(Integrity::Preferred(parameters)),
        (None, true) => Err(treeless::refusal(&ledger.shelf, layer)),
        (None, false) => Ok(Integrity::Unchecked),
    }
}

/// What a layer is checked by, if it has a hash tree.
fn parameters(record: &LayerRecord) -> Option<Parameters> {
    // An image larger than any device has none.
    record.verity.as_ref()?.parameters().ok()
}

/// Whether the chain in this snapshot's plan is still there, and the names are still those of its layers.
pub(super) fn is_current(ledger: &Ledger, record: &Record) -> bool {
    let chain = record.lower().and_then(|lower| lower.merged.as_ref());
    chain.is_none_or(|chain| ledger.chains.get(chain).is_some())
        && host_lower(record).is_none_or(|(lower, names)| ledger.mounts.are_current(&lower.subjects(), names))
}

/// Takes over the mounts of an earlier daemon, and mounts what is missing, as after a reboot. What
/// cannot be mounted is logged, and tried again when somebody asks for the plan.
pub(super) fn adopt(ledger: &Ledger) -> Result<Adoption, Error> {
    let records: Vec<_> = ledger.read(|index| index.snapshots().cloned().collect());
    let planned = ledger.read(planned);
    let known = |subject: &Subject| match subject {
        Subject::Layer(layer) => {
            ledger.read(|index| index.layer(layer).map(|record| Known { verity: parameters(record) }))
        }
        Subject::Chain(chain) => ledger.chains.get(chain).map(|_| Known { verity: None }),
    };
    let adoption = ledger.mounts.adopt(planned, known)?;
    for record in records {
        if let Err(error) = attach(ledger, &record) {
            tracing::error!(
                %error, profile = %record.profile, key = %record.key,
                "what a snapshot needs cannot be mounted"
            );
        }
    }
    Ok(adoption)
}

/// The names that plans have given out, each once.
fn planned(index: &Index) -> BTreeMap<Subject, MountName> {
    let lowers = index.snapshots().filter_map(|record| host_lower(record));
    lowers.flat_map(|(lower, names)| lower.subjects().into_iter().zip(names.iter().cloned())).collect()
}

fn host_lower(record: &Record) -> Option<(&Lower, &[MountName])> {
    let lower = record.lower()?;
    match &lower.flavour {
        Flavour::Host { names } => Some((lower, names)),
        Flavour::Template | Flavour::Raw | Flavour::VhostUser => None,
    }
}
