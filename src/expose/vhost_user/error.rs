//! Why a disk cannot be exported.

use std::io;
use std::path::PathBuf;

use crate::error::{Classify, Kind, io_kind};
use crate::store;

/// Why a disk cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] store::Error),
    /// Something else than a file is where one must be.
    #[error("{} is not a regular file: a disk is made of layers' files, or is a writable block", path.display())]
    NotAFile {
        /// What it is.
        path: PathBuf,
    },
    /// A file was opened for more or less than its use.
    #[error("{} must be open for {wanted}", path.display())]
    Opened {
        /// The file.
        path: PathBuf,
        /// What it must be open for.
        wanted: &'static str,
    },
    /// The map of a disk names a file that was not given.
    #[error("the disk has a file with the number {file}, which was not opened")]
    NoSuchFile {
        /// The number in the map.
        file: usize,
    },
    /// A file is shorter than the map of the disk says.
    #[error("{} has {found} bytes, but the disk needs {needed} of them: pull the image again", path.display())]
    Short {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        found: u64,
        /// What is needed in bytes.
        needed: u64,
    },
    /// A writable block that is not in whole sectors.
    #[error("{} has {bytes} bytes, which is no size of a disk with sectors of 512 bytes", path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        bytes: u64,
    },
    /// A hash tree in a form that only the kernel may know.
    #[error("the hash tree of {} is not in the form that can be checked here: export it without --verify", path.display())]
    Tree {
        /// The layer's file.
        path: PathBuf,
    },
    /// A hash tree in a file of its own that is over something else.
    #[error(
        "{} is no hash tree over {}: it is of other layers, or was cut; make both again, or export without --verify",
        tree.display(), path.display()
    )]
    OtherTree {
        /// The file that is to be checked.
        path: PathBuf,
        /// The tree's file.
        tree: PathBuf,
    },
    /// A writable block that somebody else has.
    #[error("{} is in use by another virtual machine: stop that first", path.display())]
    InUse {
        /// The block.
        path: PathBuf,
    },
    /// More queues than there can be.
    #[error("{queues} queues: a disk has 1 to {most}, one for each processor of the guest is best")]
    Queues {
        /// What was asked for.
        queues: u16,
        /// What is possible.
        most: u16,
    },
    /// Waiting for monitors, or serving one, failed.
    #[error("cannot {operation}")]
    Socket {
        /// What failed.
        operation: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// The threads of a connection cannot be started.
    #[error("cannot start to serve a connection: {reason}")]
    Start {
        /// The reason.
        reason: String,
    },
}

impl Error {
    /// For use with `map_err` on a call that has to do with the socket.
    pub(super) fn socket<E: Into<io::Error>>(operation: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Socket { operation, source: source.into() }
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::File(error) => error.kind(),
            Self::NotAFile { .. } | Self::Size { .. } | Self::Tree { .. } | Self::InUse { .. } => {
                Kind::FailedPrecondition
            }
            Self::Queues { .. } => Kind::InvalidArgument,
            Self::Short { .. } | Self::OtherTree { .. } => Kind::DataLoss,
            Self::Socket { source, .. } => io_kind(source),
            Self::Opened { .. } | Self::NoSuchFile { .. } | Self::Start { .. } => Kind::Internal,
        }
    }
}
