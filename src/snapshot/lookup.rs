//! The layers of snapshots, from the records beside them: for tools that look into the root of a daemon
//! that may run, and so has the database for itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::record::{Record, State};
use crate::layer::LayerKey;
use crate::store::{Error, sidecar};

/// A snapshot and the layers that it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The snapshotter's name.
    pub profile: String,
    /// The snapshot's key, with namespace and number in front, as containerd gives it.
    pub key: String,
    /// Newest first. What an active snapshot writes to is not among them.
    pub layers: Vec<LayerKey>,
}

/// The snapshots below `root` whose key is `wanted`, or is so behind containerd's namespace and number.
///
/// # Errors
/// If the directory of snapshots or a record cannot be read. Snapshots that are removed meanwhile are passed
/// over.
pub fn find(root: &Path, wanted: &str) -> Result<Vec<Found>, Error> {
    let records = records(&root.join("snapshots"))?;
    let meant = records.values().filter(|record| record.key == wanted || short(&record.key) == wanted);
    Ok(meant.map(|record| found(record, &records)).collect())
}

type Records = BTreeMap<(String, String), Record>;

fn records(directory: &Path) -> Result<Records, Error> {
    let mut records = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(Error::io("read", directory))? {
        let path = entry.map_err(Error::io("read", directory))?.path();
        match sidecar::read::<Record>(&path.join(super::directory::RECORD_NAME)) {
            Ok(record) => {
                records.insert((record.profile.clone(), record.key.clone()), record);
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(records)
}

/// A key without namespace and number: `NAMESPACE/NUMBER/KEY`.
fn short(key: &str) -> &str {
    key.splitn(3, '/').nth(2).unwrap_or(key)
}

fn found(record: &Record, records: &Records) -> Found {
    let layers = match &record.state {
        State::View(lower) => lower.layers.clone(),
        State::Active(active) => active.layer.iter().chain(&active.lower.layers).cloned().collect(),
        State::Committed(_) | State::Unsealed(_) => chain(record, records),
    };
    Found { profile: record.profile.clone(), key: record.key.clone(), layers }
}

/// The layers of committed snapshots from this one down. One that has none yet is passed over.
fn chain(record: &Record, records: &Records) -> Vec<LayerKey> {
    let mut layers = Vec::new();
    let mut next = Some(record);
    // Records of a damaged root could name each other in a circle.
    for record in std::iter::from_fn(|| {
        let record = next?;
        let parent = record.parent.clone();
        next = parent.and_then(|parent| records.get(&(record.profile.clone(), parent)));
        Some(record)
    })
    .take(records.len())
    {
        if let State::Committed(committed) = &record.state {
            layers.push(committed.layer.clone());
        }
    }
    layers
}
