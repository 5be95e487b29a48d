//! What can go wrong below the snapshot model.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Classify, Kind, io_kind};

/// A failure of the database or of the directories beside it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A record has no JSON form, such as a time before 1970.
    #[error("record {key:?} cannot be written: {source}")]
    Encode {
        /// Key of the record.
        key: String,
        /// What has no JSON form.
        source: serde_json::Error,
    },
    /// A file beside the database is not the JSON expected.
    #[error("{} does not hold the record expected: {source}", path.display())]
    Json {
        /// The file or database.
        path: PathBuf,
        /// What is wrong with the text.
        source: serde_json::Error,
    },
    /// Another process has the database open.
    #[error("{} is open in another process: stop the other daemon, or give this one another --root", path.display())]
    InUse {
        /// The database.
        path: PathBuf,
    },
    /// The database was written by a later release.
    #[error(
        "{} has schema version {found}, this release knows up to {supported}: run the release that wrote it, or a later one",
        path.display()
    )]
    NewerSchema {
        /// The database.
        path: PathBuf,
        /// Version that it has.
        found: u64,
        /// Latest version that this program reads.
        supported: u64,
    },
    /// The database's content makes no sense.
    #[error("{} is damaged ({reason}): restart the daemon, it rebuilds the database from disk", path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The database refused for another reason than damage.
    #[error("cannot {operation} {}: {source}", path.display())]
    Database {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The database.
        path: PathBuf,
        /// Why not.
        source: Box<redb::Error>,
    },
    /// What is on disk is not what this process believes; its memory must be read anew.
    #[error("{} changed behind the daemon's back: restart the daemon", path.display())]
    Diverged {
        /// The database.
        path: PathBuf,
    },
    /// A file system is mounted inside a tree that is to be deleted.
    #[error("{} is a mount point: unmount it, then it is deleted by the next Cleanup or restart", path.display())]
    Mounted {
        /// The mount point.
        path: PathBuf,
    },
    /// A directory was moved while its tree was walked.
    #[error("{} was moved while it was read: try again", path.display())]
    Moved {
        /// Where it was.
        path: PathBuf,
    },
    /// The walk was told to stop.
    #[error("stopped before {} was done", path.display())]
    Stopped {
        /// Where it was.
        path: PathBuf,
    },
    /// Directories that were to be deleted still exist.
    #[error("{count} directories could not be deleted, first: {first}")]
    Undeleted {
        /// How many.
        count: usize,
        /// Why the first of them is still there.
        first: String,
    },
}

impl Error {
    /// For `map_err`: what was tried on what.
    pub(crate) fn io<E: Into<io::Error>>(operation: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |source| Self::Io { operation, path: path.to_owned(), source: source.into() }
    }

    /// Whether the operating system said that the thing does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Io { source, .. } => io_kind(source),
            Self::Database { source, .. } => match source.as_ref() {
                redb::Error::Io(error) => io_kind(error),
                _ => Kind::Internal,
            },
            Self::Json { .. } | Self::Damaged { .. } => Kind::DataLoss,
            Self::InUse { .. } | Self::NewerSchema { .. } | Self::Mounted { .. } | Self::Undeleted { .. } => {
                Kind::FailedPrecondition
            }
            Self::Encode { .. } | Self::Diverged { .. } | Self::Moved { .. } | Self::Stopped { .. } => {
                Kind::Internal
            }
        }
    }
}
