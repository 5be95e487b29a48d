//! Why an image cannot be a device.

use std::path::PathBuf;

use crate::error::{Classify, Kind};
use crate::image::{extent, gpt, vmdk};
use crate::store;

/// Why an image cannot be given as one block device in the form that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] store::Error),
    /// Something else than a file is where one must be. Monitors refuse symbolic links.
    #[error("{} is not a regular file: a block device is made of the layers' own files", path.display())]
    NotAFile {
        /// What it is.
        path: PathBuf,
    },
    /// A file's size is not in whole blocks.
    #[error(
        "{} has {bytes} bytes, which is not a multiple of {unit}: it cannot be a part of this device",
        path.display()
    )]
    Size {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        bytes: u64,
        /// What the size must be a multiple of, in bytes.
        unit: u64,
    },
    /// Layers that were not merged are no single file system.
    #[error("{layers} layers that were not merged are no single file system: use a disk with partitions")]
    NotMerged {
        /// Number of layers.
        layers: usize,
    },
    /// There is no hash tree over all layers where these were not merged.
    #[error(
        "layers that were not merged have no hash tree over all of them; the file of a single layer is such a disk itself"
    )]
    NotVerified,
    /// The layers cannot be the partitions of a disk.
    #[error("the layers cannot be the partitions of a disk")]
    Partitions(#[from] gpt::Error),
    /// The device would be too large.
    #[error("the layers cannot be one device")]
    Extents(#[from] extent::Error),
    /// A VMDK descriptor cannot say it.
    #[error("the device cannot be a VMDK disk")]
    Vmdk(#[from] vmdk::Error),
    /// A part of a device that a portable descriptor has no line for.
    #[error(
        "a VMDK descriptor that every monitor reads cannot say what is at byte {offset}; use a flat file instead"
    )]
    Inexpressible {
        /// Where on the device, in bytes.
        offset: u64,
    },
    /// There is such a device of other files.
    #[error("{} was made of other files: remove it, and ask for it again", path.display())]
    Stale {
        /// What a monitor would open.
        path: PathBuf,
    },
    /// A descriptor is not one of ours.
    #[error("{} cannot be trusted: remove it, and ask for it again", path.display())]
    Foreign {
        /// The descriptor.
        path: PathBuf,
        /// What is wrong with it.
        source: vmdk::ParseError,
    },
    /// A file that a descriptor names is shorter than it says.
    #[error("{} has {found} bytes, but {} needs {needed} of them: pull the image again", path.display(), descriptor.display())]
    Short {
        /// The file.
        path: PathBuf,
        /// The descriptor.
        descriptor: PathBuf,
        /// Its size in bytes.
        found: u64,
        /// What the descriptor says, in bytes.
        needed: u64,
    },
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::File(error) => error.kind(),
            Self::NotAFile { .. }
            | Self::Size { .. }
            | Self::NotMerged { .. }
            | Self::NotVerified
            | Self::Partitions(_)
            | Self::Extents(_)
            | Self::Vmdk(_)
            | Self::Inexpressible { .. }
            | Self::Stale { .. } => Kind::FailedPrecondition,
            Self::Foreign { .. } | Self::Short { .. } => Kind::DataLoss,
        }
    }
}
