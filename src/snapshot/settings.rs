//! What an operator may choose about snapshots.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{
    self, Flavour, Layers, OverlayOption, ProjectQuota, RootPath, VerityMode, WritableLayer,
};
use crate::layer::{HashTree, Protection};

/// What an operator may choose about snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotSettings {
    /// Directory that holds everything, made if it does not exist.
    pub root: RootPath,
    /// What keeps layer files from being changed.
    pub protection: Protection,
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

    /// The profiles whose layers are mounted checked or not at all.
    pub(super) fn strict(&self) -> BTreeSet<String> {
        let strict = self.profiles.iter().filter(|(_, profile)| profile.verity == VerityMode::Require);
        strict.map(|(name, _)| name.clone()).collect()
    }
}

/// What one kind of consumer is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Who mounts the layers.
    pub flavour: Flavour,
    /// Whether the layers of an image are mounted one by one.
    pub layers: Layers,
    /// Size in bytes of an active snapshot's writable block; 0 for a directory instead.
    pub default_size: u64,
    /// What becomes of a size that a client asks for where writes go to a directory.
    pub project_quota: ProjectQuota,
    /// Whether the layers have dm-verity trees, and plans tell of them.
    pub verity: VerityMode,
    /// Options that are added to overlay mounts, in this order.
    pub overlay_options: Vec<OverlayOption>,
}

impl From<&config::Profile> for Profile {
    fn from(profile: &config::Profile) -> Self {
        Self {
            flavour: profile.flavour,
            layers: profile.layers,
            project_quota: profile.project_quota,
            verity: profile.verity,
            default_size: match profile.writable_layer {
                WritableLayer::Directory => 0,
                WritableLayer::Block(bytes) => bytes.get(),
            },
            overlay_options: profile.overlay_options.clone(),
        }
    }
}
