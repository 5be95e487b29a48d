//! Why mkfs.erofs made no layer.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use super::agreement::Disagreement;
use crate::error::{Classify, Kind, io_kind};
use crate::image::erofs::InvalidSuperblock;
use crate::image::tar;
use crate::layer::admission;

/// Why mkfs.erofs made no layer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tar is damaged or asks for what a layer must not have.
    #[error("cannot make a layer of the tar")]
    Tar(#[source] tar::Error),
    /// The program does not start.
    #[error("cannot start mkfs.erofs; install erofs-utils 1.8 or newer, or remove mkfs_options and builder")]
    Start(#[source] io::Error),
    /// The program failed.
    #[error("mkfs.erofs ended with {status} and said {said:?}; correct mkfs_options, or remove them")]
    Program {
        /// How it ended.
        status: ExitStatus,
        /// The start of what it wrote to its standard error.
        said: String,
    },
    /// Nobody waits for the layer any more.
    #[error("mkfs.erofs was ended, because the request was cancelled")]
    Stopped,
    /// A file operation failed.
    #[error("cannot {operation} {path}", path = path.display())]
    Io {
        /// What failed.
        operation: &'static str,
        /// The layer file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// What it wrote does not begin as an image does.
    #[error("mkfs.erofs wrote an image that is not taken")]
    Superblock(#[from] InvalidSuperblock),
    /// What it wrote is not taken.
    #[error("mkfs.erofs wrote an image that is not taken")]
    Admission(#[from] admission::Error),
    /// What it wrote is not what the tar says.
    #[error(transparent)]
    Disagreement(#[from] Disagreement),
    /// The recipe is not one of this builder.
    #[error("internal fault: a recipe without mkfs.erofs came to it")]
    Recipe,
}

impl Error {
    /// Adapter for `map_err`: the failure of `operation` on `path`.
    pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { operation, path: path.to_owned(), source }
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Tar(tar::Error::Read { source, .. }) | Self::Io { source, .. } => io_kind(source),
            Self::Tar(_) | Self::Disagreement(_) => Kind::InvalidArgument,
            Self::Admission(error) => error.kind(),
            Self::Start(_) | Self::Program { .. } | Self::Superblock(_) => Kind::FailedPrecondition,
            Self::Stopped => Kind::Cancelled,
            Self::Recipe => Kind::Internal,
        }
    }
}
