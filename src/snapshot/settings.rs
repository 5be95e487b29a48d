//! What an operator may choose about snapshots.

use std::collections::BTreeMap;

use crate::config::{Flavour, OverlayOption, ProjectQuota, RootPath, VerityMode};
use crate::layer::HashTree;

/// What an operator may choose about snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotSettings {
    /// Directory that holds everything, made if it does not exist.
    pub root: RootPath,
    /// Profiles by the name that a request calls the snapshotter by.
    pub profiles: BTreeMap<String, Profile>,
}

impl SnapshotSettings {
    /// Whether layers that are made get a dm-verity tree: one file serves all profiles.
    #[must_use]
    pub fn hash_tree(&self) -> HashTree {
        match self.profiles.values().all(|profile| profile.verity == VerityMode::Off) {
            true => HashTree::Without,
            false => HashTree::With,
        }
    }
}

/// What one kind of consumer is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Who mounts the layers.
    pub flavour: Flavour,
    /// Size in bytes of an active snapshot's writable block; 0 for a directory instead.
    pub default_size: u64,
    /// What becomes of a size that a client asks for where writes go to a directory.
    pub project_quota: ProjectQuota,
    /// Whether the layers have dm-verity trees, and plans tell of them.
    pub verity: VerityMode,
    /// Options that are added to overlay mounts, in this order.
    pub overlay_options: Vec<OverlayOption>,
}
