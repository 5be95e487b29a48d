//! What a verb is about: files, or what the root of a daemon has.
//!
//! The daemon may run: its database is left alone, and records are read beside what they describe.

use std::path::{Path, PathBuf};

use super::error::Error;
use crate::layer::{LayerKey, Shelf};
use crate::snapshot::lookup;

/// A layer's file, or another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    /// What it is called in messages: what was asked for, or the key of a layer of that.
    pub(super) name: String,
    pub(super) file: PathBuf,
}

/// Where chains are, below the root.
const CHAINS: &str = "chains";
/// What their keys begin with.
const CHAIN: &str = "c1-";
/// The file of a chain.
const FSMETA_NAME: &str = "fsmeta.erofs";

/// What `name` stands for: a file, the key of a layer or a chain, or that of a snapshot, which stands for its
/// layers, the newest first.
pub(super) fn find(name: &Path, root: &Path) -> Result<Vec<Subject>, Error> {
    let text = name.to_string_lossy().into_owned();
    if name.symlink_metadata().is_ok() {
        return Ok(vec![Subject { name: text, file: name.to_owned() }]);
    }
    let shelf = Shelf::new(root.join("layers"));
    let layer = |key: &LayerKey| Subject { name: key.to_string(), file: shelf.image(key) };
    if let Ok(key) = text.parse::<LayerKey>() {
        return present(vec![layer(&key)], name, root);
    }
    if text.starts_with(CHAIN) {
        let file = root.join(CHAINS).join(&text).join(FSMETA_NAME);
        return present(vec![Subject { name: text, file }], name, root);
    }
    let layers = snapshot(&text, root)?;
    present(layers.iter().map(layer).collect(), name, root)
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
    match subjects.is_empty() || subjects.iter().any(|subject| !subject.file.exists()) {
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
