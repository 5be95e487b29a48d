//! What a snapshot stands on, and the chains that were asked for lately.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use super::record::SnapshotId;
use crate::layer::{LayerKey, RootAttributes};

/// Most chains that are remembered: more than the images that containers are started from at a time.
const MOST_REMEMBERED: usize = 128;

/// What a snapshot finds below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    /// Newest first.
    pub(super) layers: Vec<LayerKey>,
    /// Those with a dm-verity tree.
    pub(super) verity: BTreeSet<LayerKey>,
    /// Attributes of `/` as the newest layer that names it says.
    pub(super) root: RootAttributes,
}

/// Chains by the committed snapshot at their top.
///
/// A chain is what its records say for as long as that snapshot exists: identifiers are never given twice, a committed snapshot stays on its
/// layer, and none is removed on which another stands. Only a change of a layer's own record makes it wrong.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    chains: Mutex<HashMap<SnapshotId, Arc<Chain>>>,
}

impl Remembered {
    pub(super) fn get(&self, top: SnapshotId) -> Option<Arc<Chain>> {
        self.chains.lock().unwrap_or_else(PoisonError::into_inner).get(&top).cloned()
    }

    pub(super) fn put(&self, top: SnapshotId, chain: Arc<Chain>) {
        let mut chains = self.chains.lock().unwrap_or_else(PoisonError::into_inner);
        if chains.len() >= MOST_REMEMBERED {
            chains.clear();
        }
        chains.insert(top, chain);
    }

    /// The snapshot has gone.
    pub(super) fn forget(&mut self, top: SnapshotId) {
        self.chains.get_mut().unwrap_or_else(PoisonError::into_inner).remove(&top);
    }

    /// A layer is another.
    pub(super) fn forget_all(&mut self) {
        self.chains.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
impl Remembered {
    pub(super) fn all(&self) -> HashMap<SnapshotId, Arc<Chain>> {
        self.chains.lock().unwrap().clone()
    }
}
