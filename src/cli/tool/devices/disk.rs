//! The disks of a snapshot, and the ways in which they reach a guest.

use std::path::PathBuf;

use serde::Serialize;

use super::arguments::Transport;

/// A disk that a monitor is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Disk {
    /// What the guest finds in `/sys/block/*/serial`. At most 20 bytes.
    pub(super) serial: String,
    pub(super) read_only: bool,
    #[serde(flatten)]
    pub(super) backing: Backing,
}

/// What a monitor opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "path")]
pub(super) enum Backing {
    /// A file with the disk's bytes.
    Raw(PathBuf),
    /// A descriptor that names such files.
    Vmdk(PathBuf),
    /// A socket at which the disk is served by vhost-user.
    Socket(PathBuf),
}

/// A way to give a snapshot to a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Offer {
    pub(super) transport: Transport,
    #[serde(flatten)]
    pub(super) state: State,
    /// What the guest does with the disks.
    pub(super) guest: String,
}

/// Whether the disks are there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub(super) enum State {
    /// They are, in the order in which the guest is to get them.
    Ready {
        /// The image first, and last what is written to.
        disks: Vec<Disk>,
    },
    /// Something has to be made or started first.
    Missing {
        /// What to do.
        remedy: String,
    },
    /// This snapshot cannot have them.
    Impossible {
        /// Why not.
        reason: String,
    },
}

impl Offer {
    /// The disks, if they are there.
    pub(super) fn disks(&self) -> Option<&[Disk]> {
        match &self.state {
            State::Ready { disks } => Some(disks),
            State::Missing { .. } | State::Impossible { .. } => None,
        }
    }
}
