//! What a verb is about: files, or what the root of a daemon has.
//!
//! The daemon may run: its database is left alone, and records are read beside what they describe.

use std::path::{Path, PathBuf};

use super::error::Error;
use crate::layer::chain::shelf::{IMAGE_NAME, RECORD_NAME};
use crate::layer::chain::{ChainKey, ChainRecord, ChainShelf};
use crate::layer::{LayerKey, Shelf};
use crate::snapshot::lookup;
use crate::store::sidecar;

/// An image's file, or another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    /// What it is called in messages: what was asked for, or the key of a layer of that.
    pub(super) name: String,
    pub(super) file: PathBuf,
    /// The layers that hold the data of a chain's image, the oldest first, which is their order in its table.
    pub(super) layers: Vec<Subject>,
}

impl Subject {
    fn new(name: impl ToString, file: PathBuf) -> Self {
        Self { name: name.to_string(), file, layers: Vec::new() }
    }

    /// A chain's image and each of its layers; anything else alone.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.layers)
    }
}

/// What `name` stands for: a file, the key of a layer or a chain, or that of a snapshot, which stands for its
/// layers, the newest first.
pub(super) fn find(name: &Path, root: &Path) -> Result<Vec<Subject>, Error> {
    let text = name.to_string_lossy().into_owned();
    if name.symlink_metadata().is_ok() {
        return Ok(vec![Subject::new(text, name.to_owned())]);
    }
    let shelf = Shelf::new(root.join(Shelf::DIRECTORY));
    let layer = |key: &LayerKey| Subject::new(key, shelf.image(key));
    if let Ok(key) = text.parse::<LayerKey>() {
        return present(vec![layer(&key)], name, root);
    }
    if let Ok(key) = text.parse::<ChainKey>() {
        return present(chain(&key, root, layer)?, name, root);
    }
    let layers = snapshot(&text, root)?;
    present(layers.iter().map(layer).collect(), name, root)
}

/// The image of the chain with this key and its layers; nothing if there is no such chain.
fn chain(key: &ChainKey, root: &Path, layer: impl Fn(&LayerKey) -> Subject) -> Result<Vec<Subject>, Error> {
    let directory = root.join(ChainShelf::DIRECTORY).join(key.as_str());
    let record: ChainRecord = match sidecar::read(&directory.join(RECORD_NAME)) {
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        record => record?,
    };
    let layers = record.layers.iter().map(|part| layer(&part.key)).collect();
    Ok(vec![Subject { layers, ..Subject::new(key, directory.join(IMAGE_NAME)) }])
}

/// The layers of the snapshot with this key. The same key in several namespaces or profiles is no matter
/// where it stands for the same layers.
fn snapshot(key: &str, root: &Path) -> Result<Vec<LayerKey>, Error> {
    // A name that can only be meant as that of a file is not looked up.
    let found = match root.is_dir() && !key.is_empty() {
        true => lookup::find(root, key)?,
        false => Vec::new(),
    };
    let mut layers = found.iter().map(|found| &found.layers);
    let first = layers.next().cloned().unwrap_or_default();
    if layers.any(|layers| *layers != first) {
        let names = found.iter().map(|found| format!("{} of {}", found.key, found.profile));
        return Err(Error::Ambiguous { key: key.to_owned(), found: names.collect::<Vec<_>>().join(", ") });
    }
    Ok(first)
}

fn present(subjects: Vec<Subject>, name: &Path, root: &Path) -> Result<Vec<Subject>, Error> {
    match subjects.is_empty() || subjects.iter().flat_map(Subject::parts).any(|part| !part.file.exists()) {
        true => Err(Error::NoSubject { name: name.to_owned(), root: root.to_owned() }),
        false => Ok(subjects),
    }
}

/// The file that tells of the dm-verity tree in another one, as containerd names it.
pub(super) fn sidecar_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".dmverity");
    PathBuf::from(name)
}
