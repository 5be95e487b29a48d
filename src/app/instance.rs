//! What makes this process the only daemon of its root and its address.

use std::path::Path;

use tokio::net::UnixListener;

use super::error::Error;
use super::lock::{Lock, LockError};
use super::socket::{self, SocketFile};

/// Name of the lock file in the root.
const LOCK: &str = "lock";

/// The locked root and the listening socket of this daemon.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) listener: UnixListener,
    pub(super) claim: Claim,
}

/// What this daemon holds until its last call is over. Dropped in this order: a successor finds
/// the socket gone before the root is free.
#[derive(Debug)]
pub(super) struct Claim {
    _socket: SocketFile,
    _root: Lock,
}

impl Instance {
    /// Locks `root`, which is made if it is missing, and listens at `address`.
    pub(super) fn claim(root: &Path, address: &Path) -> Result<Self, Error> {
        let root_lock = lock_root(root)?;
        let (listener, socket) = socket::listen(address)?;
        Ok(Self { listener, claim: Claim { _socket: socket, _root: root_lock } })
    }
}

fn lock_root(root: &Path) -> Result<Lock, Error> {
    socket::make_directory(root)?;
    let path = root.join(LOCK);
    Lock::take(&path).map_err(|error| match error {
        LockError::Held(holder) => Error::RootInUse { path: root.to_owned(), holder },
        LockError::Io(source) => Error::file("lock", &path)(source),
    })
}
