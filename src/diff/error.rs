//! Why a layer was not unpacked.

use std::io;

use super::content;
use super::media::Unsupported;
use super::pass::BadContent;
use crate::error::{Classify, Kind, io_kind};
use crate::image::digest::Digest;
use crate::layer::{admission, build, mkfs};
use crate::snapshot;

/// Why a layer was not unpacked. The snapshot stays as it was, ready for another try.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The mounts belong to another snapshotter; containerd asks the next differ.
    #[error("the mounts are not of a snapshot of this snapshotter")]
    NotOurs,
    /// The layer is of a type that this differ does not unpack.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The snapshot refused.
    #[error(transparent)]
    Snapshot(#[from] snapshot::Error),
    /// containerd did not give the blob.
    #[error(transparent)]
    ContentStore(#[from] content::Error),
    /// The blob broke off while it was read.
    #[error("cannot read blob {blob}")]
    ReadBlob {
        /// The blob.
        blob: Digest,
        /// The system's reason.
        source: io::Error,
    },
    /// The blob is not what its digest says.
    #[error(
        "blob {blob} is damaged in the content store: its {bytes} bytes have digest {found}, expected {expected} bytes; \
         remove the image (ctr images rm --sync) and pull it again"
    )]
    DamagedBlob {
        /// The blob.
        blob: Digest,
        /// Size that containerd knows, in bytes.
        expected: u64,
        /// Digest of what was read.
        found: Digest,
        /// Size of what was read, in bytes.
        bytes: u64,
    },
    /// The blob is intact, but its content is not what its media type promises.
    #[error("blob {blob} cannot be unpacked; its digest is right, so the image was published like this")]
    Content {
        /// The blob.
        blob: Digest,
        /// What is wrong.
        source: BadContent,
    },
    /// The layer file could not be built.
    #[error(transparent)]
    Build(build::Error),
    /// mkfs.erofs made no layer of the tar.
    #[error(transparent)]
    Mkfs(mkfs::Error),
    /// The blob's EROFS image is not taken over, or its file could not be written.
    #[error("the EROFS image in blob {blob} cannot be a layer")]
    Adopt {
        /// The blob.
        blob: Digest,
        /// What is wrong.
        source: admission::Error,
    },
    /// The blob holds another layer than the image's configuration says.
    #[error("the blob holds layer {found}, but the image's configuration lists {expected} in its place")]
    WrongLayer {
        /// What the configuration says.
        expected: Digest,
        /// What the blob holds.
        found: Digest,
    },
    /// The blob's size is not what the manifest says.
    #[error("blob {blob} has {found} bytes, but the image's manifest says {expected}")]
    WrongSize {
        /// The blob.
        blob: Digest,
        /// Size in the descriptor, in bytes.
        expected: u64,
        /// Size in the content store, in bytes.
        found: u64,
    },
    /// The caller went away.
    #[error("the request was cancelled")]
    Cancelled,
    /// The daemon is stopping.
    #[error("the daemon is stopping: try again when it runs")]
    Stopping,
    /// A thread of the pass panicked.
    #[error("internal fault: the {0} thread of the pass panicked; its message is in the log")]
    ThreadPanicked(&'static str),
    /// The task panicked.
    #[error("internal fault: unpacking panicked; its message is in the log")]
    Panicked(#[from] tokio::task::JoinError),
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NotOurs => Kind::Unimplemented,
            Self::Snapshot(error) => error.kind(),
            Self::ContentStore(error) => error.kind(),
            Self::ReadBlob { source, .. } => io_kind(source),
            Self::DamagedBlob { .. } => Kind::DataLoss,
            // Not Unimplemented: what another differ makes of the blob would not be the image's layer.
            Self::Unsupported(_)
            | Self::Content { .. }
            | Self::WrongLayer { .. }
            | Self::WrongSize { .. } => Kind::InvalidArgument,
            Self::Build(error) => error.kind(),
            Self::Mkfs(error) => error.kind(),
            Self::Adopt { source, .. } => source.kind(),
            Self::Stopping => Kind::Unavailable,
            Self::Cancelled => Kind::Cancelled,
            Self::ThreadPanicked(_) | Self::Panicked(_) => Kind::Internal,
        }
    }
}
