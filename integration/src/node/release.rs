//! Which containerd a node runs: the releases differ in what they have and in how they are configured.

use std::path::PathBuf;

use anyhow::Result;

use crate::host::tools::{CONTAINERD_1_7, CONTAINERD_2_4};
use crate::stage::Place;

/// A release of containerd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Release {
    /// Built from its Go modules. Has all that 2.3 has, and takes layers that a snapshotter has already.
    V2_4,
    /// Built from its Go modules. Has a mount manager and unpacks layers in parallel.
    #[default]
    V2_3,
    /// The package of the test host. Has a transfer service, but no mount manager.
    V2_1,
    /// Debian 13's package. Its client pulls through the diff service only.
    V1_7,
}

impl Release {
    /// The directory with containerd, its client and its runc shim.
    ///
    /// # Errors
    /// The program did not ask for this release.
    pub fn programs(self, place: &Place) -> Result<PathBuf> {
        Ok(match self {
            Self::V2_4 => place.extra(CONTAINERD_2_4)?.to_owned(),
            Self::V2_3 => place.tools.clone(),
            Self::V2_1 => "/usr/bin".into(),
            Self::V1_7 => place.extra(CONTAINERD_1_7)?.join("usr/bin"),
        })
    }

    /// The `version` of its configuration file.
    pub(super) const fn configuration(self) -> u8 {
        match self {
            Self::V2_4 | Self::V2_3 | Self::V2_1 => 3,
            Self::V1_7 => 2,
        }
    }

    /// Plugins that a test does without: some want what the machine lacks, others write outside the node.
    pub(super) const fn unwanted_plugins(self) -> &'static [&'static str] {
        match self {
            Self::V2_4 | Self::V2_3 | Self::V2_1 => &[
                "io.containerd.internal.v1.opt",
                "io.containerd.nri.v1.nri",
                "io.containerd.snapshotter.v1.blockfile",
            ],
            Self::V1_7 => &[
                "io.containerd.internal.v1.opt",
                "io.containerd.nri.v1.nri",
                "io.containerd.snapshotter.v1.aufs",
                "io.containerd.snapshotter.v1.blockfile",
                "io.containerd.snapshotter.v1.btrfs",
                "io.containerd.snapshotter.v1.devmapper",
                "io.containerd.snapshotter.v1.zfs",
            ],
        }
    }

    /// The plugins that serve Kubernetes.
    pub(super) const fn cri_plugins(self) -> &'static [&'static str] {
        match self {
            Self::V2_4 | Self::V2_3 | Self::V2_1 => {
                &["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri"]
            }
            Self::V1_7 => &["io.containerd.grpc.v1.cri"],
        }
    }

    /// Whether it has a mount manager, unpacks layers at the same time, and knows images of EROFS layers.
    pub(super) const fn has_mount_manager(self) -> bool {
        matches!(self, Self::V2_4 | Self::V2_3)
    }

    /// Whether it has containerd's built-in erofs snapshotter and differ.
    pub(super) const fn has_erofs(self) -> bool {
        !matches!(self, Self::V1_7)
    }
}
