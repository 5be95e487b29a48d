//! Why a directory cannot be read as a layer.

use std::io;
use std::path::PathBuf;

use crate::error::{Classify, Kind, io_kind};

/// Why a directory cannot be read as a layer. Paths start at the directory.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {operation} {path:?} of what was written: {source}")]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file system is mounted inside.
    #[error("something is mounted on {path:?} of what was written: unmount it and try again")]
    Mounted {
        /// The mount point.
        path: PathBuf,
    },
    /// A directory was moved while it was read.
    #[error("{path:?} was moved while it was read: end what still writes there and try again")]
    Moved {
        /// Where it was.
        path: PathBuf,
    },
    /// Data is so scattered over a sparse file that an image cannot hold it in reasonable space.
    #[error(
        "the data of {path:?} is in {runs} places with holes between, too scattered for a layer: copy the file"
    )]
    Scattered {
        /// The file.
        path: PathBuf,
        /// Runs of data.
        runs: usize,
    },
    /// More than a layer may have.
    #[error(
        "what was written has more {what} than the {limit} that a layer may have: write it in several layers"
    )]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// How much there may be.
        limit: u64,
    },
    /// The image that the data goes to cannot be written.
    #[error("cannot write the layer's data: {0}")]
    Sink(#[source] io::Error),
    /// The reader was told to stop.
    #[error("stopped before all was read")]
    Stopped,
}

impl Error {
    /// For `map_err`: what was tried on what.
    pub(super) fn io<E: Into<io::Error>>(
        operation: &'static str,
        path: &dyn Fn() -> PathBuf,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Io { operation, path: path(), source: source.into() }
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Io { source, .. } | Self::Sink(source) => io_kind(source),
            Self::Mounted { .. } | Self::Moved { .. } => Kind::FailedPrecondition,
            Self::Scattered { .. } | Self::TooMuch { .. } => Kind::InvalidArgument,
            Self::Stopped => Kind::Unavailable,
        }
    }
}
