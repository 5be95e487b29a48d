//! Why the daemon could not start, or could not go on.

use std::io;
use std::path::{Path, PathBuf};

use super::holder::Holder;

/// Why the daemon could not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another daemon works in the root.
    #[error("root {path} is in use by {holder}; stop that daemon, or give this one another --root", path = path.display())]
    RootInUse {
        /// The root.
        path: PathBuf,
        /// Who works there.
        holder: Holder,
    },
    /// Somebody listens at the address.
    #[error("address {path} is in use by {holder}; stop that process, or give this daemon another --address", path = path.display())]
    AddressInUse {
        /// The address.
        path: PathBuf,
        /// Who listens there.
        holder: Holder,
    },
    /// Something that is not a socket appeared at the address after the settings were checked.
    #[error("address {path} exists and is not a socket; remove it, or give another --address", path = .0.display())]
    NotASocket(PathBuf),
    /// The operating system refused an operation on a file.
    #[error("cannot {operation} {path}: {source}; check the rights and the file system there", path = path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// What lies under the root cannot be used.
    #[error(transparent)]
    Snapshots(#[from] crate::snapshot::Error),
    /// The builder that the settings ask for is not there.
    #[error(transparent)]
    Builder(#[from] crate::layer::mkfs::program::Unusable),
    /// containerd's address cannot be used.
    #[error(transparent)]
    Content(#[from] crate::diff::ContentError),
    /// containerd's address cannot be used to ask for its version.
    #[error(transparent)]
    Containerd(#[from] crate::service::cache_hits::UnusableAddress),
    /// Signal handlers could not be installed.
    #[error("cannot install signal handlers: {0}; check the limits of this process")]
    Signals(#[source] io::Error),
    /// The server stopped although nothing told it to.
    #[error("the server stopped by itself: {0}; restart the daemon and report the log")]
    Serve(#[from] tonic::transport::Error),
    /// The server's stream of connections ended.
    #[error("the socket stopped accepting; restart the daemon and report the log")]
    SocketClosed,
}

impl Error {
    /// Adapter for `map_err`: the failure of `operation` on `path`.
    pub(super) fn file<E: Into<io::Error>>(operation: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |source| Self::File { operation, path: path.to_owned(), source: source.into() }
    }
}
