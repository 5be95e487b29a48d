//! Lock files: one holder at a time, who says in the file who it is.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

use super::holder::Holder;

/// Longest lock file that is read, in bytes.
const LONGEST: u64 = 4096;

/// A lock that this process holds until it is dropped or the process ends, however it ends.
///
/// The file stays: were it removed, a second process could lock the removed file while a third
/// makes and locks a new one, and both would believe themselves alone.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

/// Why a lock was not taken.
#[derive(Debug)]
pub(super) enum LockError {
    /// Somebody else has it.
    Held(Holder),
    /// The operating system refused.
    Io(io::Error),
}

impl From<io::Error> for LockError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Lock {
    /// Takes the lock at `path` without waiting and writes this process into the file.
    pub(super) fn take(path: &Path) -> Result<Self, LockError> {
        // No symbolic link is followed: the address may lie in a directory that others can write,
        // and the file is about to be truncated.
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::Held(read_holder(&file))),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        file.set_len(0)?;
        file.write_all(Holder::this_process().to_line().as_bytes())?;
        Ok(Self { file })
    }

    /// Keeps the lock for as long as this process has a thread.
    pub(super) fn keep(self) {
        std::mem::forget(self.file);
    }
}

fn read_holder(file: &File) -> Holder {
    let mut line = String::new();
    match file.take(LONGEST).read_to_string(&mut line) {
        Ok(_) => Holder::from_line(&line),
        Err(_) => Holder::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_is_first() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("lock");
        let first = Lock::take(&path).expect("free");
        match Lock::take(&path) {
            Err(LockError::Held(holder)) => assert_eq!(holder, Holder::this_process()),
            other => panic!("{other:?}"),
        }
        drop(first);
        assert!(path.exists(), "the file stays");
        Lock::take(&path).expect("free again");
    }

    #[test]
    fn a_longer_line_of_an_earlier_holder_is_gone() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("lock");
        std::fs::write(&path, format!("1 {}\n", "x".repeat(3000))).expect("old line");
        let _lock = Lock::take(&path).expect("free");
        let line = std::fs::read_to_string(&path).expect("readable");
        assert_eq!(Holder::from_line(&line), Holder::this_process());
    }

    #[test]
    fn a_link_is_not_followed() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let precious = directory.path().join("precious");
        std::fs::write(&precious, "keep").expect("file");
        let link = directory.path().join("lock");
        std::os::unix::fs::symlink(&precious, &link).expect("link");
        assert!(matches!(Lock::take(&link), Err(LockError::Io(_))));
        assert_eq!(std::fs::read_to_string(&precious).expect("readable"), "keep");
    }
}
