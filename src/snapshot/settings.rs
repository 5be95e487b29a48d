//! What an operator may choose about snapshots.

use std::collections::BTreeMap;

use crate::config::{Flavour, Layers, OverlayOption, ProjectQuota, RootPath};

/// What an operator may choose about snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotSettings {
    /// Directory that holds everything, made if it does not exist.
    pub root: RootPath,
    /// Profiles by the name that a request calls the snapshotter by.
    pub profiles: BTreeMap<String, Profile>,
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
    /// Options that are added to overlay mounts, in this order.
    pub overlay_options: Vec<OverlayOption>,
}
