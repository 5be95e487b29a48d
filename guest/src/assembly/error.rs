//! Why a plan could not be carried out, or not be undone.

use std::io;
use std::path::PathBuf;

use crate::dm;
use crate::part::Part;

/// Why a plan could not be carried out, or not be undone.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something of the name is there.
    #[error("{} is there already: undo it with `nexuserofs-guest umount`, or use another --id", path.display())]
    Taken {
        /// The workplace.
        path: PathBuf,
    },
    /// A verity device could not be made or removed.
    #[error(transparent)]
    Device(#[from] dm::Error),
    /// A device is not what the manifest says.
    #[error("{part} on {device} is not what the manifest says: its first wrong block was found {when}")]
    Corrupted {
        /// Which part of the image.
        part: Part,
        /// The kernel's name of the device.
        device: String,
        /// What was going on.
        when: &'static str,
    },
    /// A file operation failed.
    #[error("cannot {operation} {}: {source}", path.display())]
    File {
        /// What was to be done.
        operation: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A mount failed.
    #[error("cannot mount {what} on {}: {source}; the kernel's log may say why", path.display())]
    Mount {
        /// What.
        what: String,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The kernel is too old for images on one device.
    #[error(
        "cannot mount the merged image on {device}: {source}; that needs Linux 6.4, and this is {release}: use a newer \
         kernel, or give the layers one by one"
    )]
    OldKernel {
        /// The kernel's name of the device.
        device: String,
        /// The kernel's release.
        release: String,
        /// What mounting said.
        source: io::Error,
    },
    /// Somebody uses it.
    #[error("{} is in use: end what runs on it, or take it away with --detach", path.display())]
    InUse {
        /// What.
        path: PathBuf,
    },
    /// The record of what there is to undo cannot be read.
    #[error("{} is no record of an assembly: {source}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
}

impl Error {
    /// For a file operation.
    pub(super) fn file(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { operation, path, source }
    }
}
