//! Which names a layer hides of the layers below it.

use std::collections::{BTreeMap, BTreeSet};

use crate::image::tree::InodeId;

/// The names that had a whiteout at any time, by directory. The whiteout itself may be gone from the
/// tree since: an entry of the same name takes its place.
#[derive(Debug, Default)]
pub(super) struct Whiteouts {
    names: BTreeMap<InodeId, BTreeSet<Vec<u8>>>,
}

impl Whiteouts {
    /// Remembers a name. False if it was known.
    pub(super) fn insert(&mut self, directory: InodeId, name: &[u8]) -> bool {
        self.names.entry(directory).or_default().insert(name.to_vec())
    }

    /// Whether the directory had a whiteout of this name.
    pub(super) fn contains(&self, directory: InodeId, name: &[u8]) -> bool {
        self.names.get(&directory).is_some_and(|names| names.contains(name))
    }
}
