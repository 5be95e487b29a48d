//! The daemon's directories: made when they are missing, and the root locked.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use super::error::Error;
use super::lock::{Lock, LockError};

/// Name of the lock file in the root.
const LOCK: &str = "lock";

/// Makes `root` if it is missing, and makes this process the only daemon that works there.
pub(super) fn claim_root(root: &Path) -> Result<Lock, Error> {
    make(root)?;
    let path = root.join(LOCK);
    Lock::take(&path).map_err(|error| match error {
        LockError::Held(holder) => Error::RootInUse { path: root.to_owned(), holder },
        LockError::Io(source) => Error::file("lock", &path)(source),
    })
}

/// Makes a directory with mode 0700, and those above it. An existing one keeps its mode.
pub(super) fn make(path: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(Error::file("make the directory", path))
}
