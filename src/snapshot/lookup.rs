//! What snapshots are made of, from the records beside them: for tools that look into the root of a daemon
//! that may run, and so has the database for itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::record::{Active, Record, State};
use crate::expose::plan::{BLOCK_NAME, Flavour, Writable};
use crate::layer::LayerKey;
use crate::store::{Error, sidecar};

/// A snapshot and the layers that it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The snapshotter's name.
    pub profile: String,
    /// The snapshot's key, with namespace and number in front, as containerd gives it.
    pub key: String,
    /// The name of its directory, and of that of its exports.
    pub id: String,
    /// Newest first. What an active snapshot writes to is not among them.
    pub layers: Vec<LayerKey>,
    /// Where it writes.
    pub writes: Writes,
}

/// Where a snapshot's changes go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Writes {
    /// It has none.
    Nowhere,
    /// Into a directory of the host.
    Directory,
    /// Into a file system in this file.
    Block(PathBuf),
    /// Into one that the daemon has mounted.
    MountedBlock,
}

/// The snapshots below `root` whose key is `wanted`, or is so behind containerd's namespace and number.
///
/// # Errors
/// If the directory of snapshots or a record cannot be read. Snapshots that are removed meanwhile are passed
/// over.
pub fn find(root: &Path, wanted: &str) -> Result<Vec<Found>, Error> {
    let directory = root.join("snapshots");
    let records = records(&directory)?;
    let meant = records.values().filter(|record| record.key == wanted || short(&record.key) == wanted);
    Ok(meant.map(|record| found(record, &directory, &records)).collect())
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

fn found(record: &Record, directory: &Path, records: &Records) -> Found {
    let layers = match &record.state {
        State::View(lower) => lower.layers.clone(),
        State::Active(active) => active.layer.iter().chain(&active.lower.layers).cloned().collect(),
        State::Committed(_) | State::Unsealed(_) => chain(record, records),
    };
    let id = record.id.to_string();
    let writes = writes(record, &directory.join(&id));
    Found { profile: record.profile.clone(), key: record.key.clone(), id, layers, writes }
}

fn writes(record: &Record, directory: &Path) -> Writes {
    match &record.state {
        State::Active(Active { writable: Writable::Block, lower, .. }) => match lower.flavour {
            Flavour::Host { .. } => Writes::MountedBlock,
            _ => Writes::Block(directory.join(BLOCK_NAME)),
        },
        State::Active(Active { writable: Writable::Directory | Writable::Extraction, .. }) => {
            Writes::Directory
        }
        State::Active(_) | State::View(_) | State::Committed(_) | State::Unsealed(_) => Writes::Nowhere,
    }
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
