//! Why two snapshots were not compared.

use std::io;

use crate::diff::content;
use crate::error::{Classify, Kind, io_kind};
use crate::image::{overlay, tar};
use crate::layer::{build, open, upper};
use crate::snapshot;

/// Why two snapshots were not compared. The content store has nothing of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The mounts belong to another snapshotter; containerd asks the next differ.
    #[error("the {side} mounts are not of a snapshot of this snapshotter")]
    NotOurs {
        /// Which of the two lists.
        side: &'static str,
    },
    /// Neither stands on the other.
    #[error(
        "the left snapshot is not one that the right one stands on, and this differ compares no others: \
         compare a snapshot with its parent, or name another differ after this one, such as \"walking\""
    )]
    Unrelated,
    /// The left side can change.
    #[error("the left mounts are of a snapshot that is written to: compare with a view of its parent")]
    LeftIsWritable,
    /// A type of layer that is not written.
    #[error(
        "this differ writes no layers of type {0:?}: it writes OCI tar layers, plain, gzip or zstd, and EROFS layers"
    )]
    MediaType(String),
    /// The snapshot refused.
    #[error(transparent)]
    Snapshot(#[from] snapshot::Error),
    /// A layer's file cannot be read.
    #[error(transparent)]
    Layer(#[from] open::Error),
    /// The layers have more metadata together than is kept in memory.
    #[error(
        "the layers that are compared have more {what} together than one layer may have: compare fewer at a time"
    )]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
    },
    /// What was written cannot be read.
    #[error(transparent)]
    Upper(#[from] upper::Error),
    /// The layers do not belong together.
    #[error("cannot make one layer of what was changed")]
    Merge(#[from] overlay::Error),
    /// The tree cannot be written as a layer.
    #[error("cannot write the difference as a layer")]
    Tar(#[from] tar::write::Error),
    /// The EROFS layer cannot be built.
    #[error(transparent)]
    Build(#[from] build::Error),
    /// The layer cannot be compressed, or what is between two steps failed.
    #[error("cannot {operation} the difference")]
    Stream {
        /// What failed.
        operation: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// containerd does not take the blob.
    #[error(transparent)]
    ContentStore(#[from] content::Error),
    /// containerd took other bytes than those that were sent.
    #[error("containerd has {found} bytes of the upload, {sent} were sent: try again")]
    Offset {
        /// Bytes that were sent.
        sent: u64,
        /// Bytes that containerd has.
        found: i64,
    },
    /// The caller went away.
    #[error("the request was cancelled")]
    Cancelled,
    /// The daemon is stopping.
    #[error("the daemon is stopping: try again when it runs")]
    Stopping,
    /// The task panicked.
    #[error("internal fault: comparing panicked; its message is in the log")]
    Panicked(#[from] tokio::task::JoinError),
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NotOurs { .. } | Self::Unrelated | Self::LeftIsWritable | Self::MediaType(_) => {
                Kind::Unimplemented
            }
            Self::Snapshot(error) => error.kind(),
            Self::Layer(error) => error.kind(),
            Self::Upper(error) => error.kind(),
            Self::Merge(_) => Kind::DataLoss,
            Self::Tar(tar::write::Error::Write(source) | tar::write::Error::Read { source, .. }) => {
                io_kind(source)
            }
            Self::Tar(_) | Self::TooMuch { .. } => Kind::FailedPrecondition,
            Self::Build(error) => error.kind(),
            Self::Stream { source, .. } => io_kind(source),
            Self::ContentStore(error) => error.kind(),
            Self::Offset { .. } | Self::Stopping => Kind::Unavailable,
            Self::Cancelled => Kind::Cancelled,
            Self::Panicked(_) => Kind::Internal,
        }
    }
}
