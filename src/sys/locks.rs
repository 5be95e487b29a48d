//! Locks on files that virtual machines use: whether others hold them, and our own.

use std::fs::File;
use std::io;
use std::mem::zeroed;
use std::os::fd::AsRawFd;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Whether somebody else holds a lock on any part of `file`, which must be open for reading and writing: a
/// record lock, as virtual machine monitors take them on their disks, or one of `flock(2)`.
///
/// # Errors
/// What the kernel says.
pub fn is_held(file: &File) -> io::Result<bool> {
    Ok(has_record_lock(file)? || has_flock(file)?)
}

/// What came of an attempt to take a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is ours until the last descriptor of this opened file is closed, in whatever process.
    Now,
    /// Somebody else holds one.
    ByAnother,
}

/// Takes a record lock for writing on the whole of `file`, which must be open for reading and writing, if
/// nobody else holds a lock on any part of it. [`is_held`] sees it, and so do virtual machine monitors.
///
/// # Errors
/// What the kernel says.
pub fn take(file: &File) -> io::Result<Taken> {
    if has_flock(file)? {
        return Ok(Taken::ByAnother);
    }
    match set(file, libc::F_OFD_SETLK, libc::F_WRLCK) {
        Ok(()) => Ok(Taken::Now),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Taken::ByAnother),
        Err(error) => Err(error),
    }
}

/// Takes a record lock for reading on the whole of `file`, which must be open for reading. Others may have such locks,
/// too; this waits while somebody has one for writing, such as [`take`] gives.
///
/// # Errors
/// What the kernel says.
pub fn share(file: &File) -> io::Result<()> {
    loop {
        match set(file, libc::F_OFD_SETLKW, libc::F_RDLCK) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Gives up what [`take`] or [`share`] gave.
///
/// # Errors
/// What the kernel says.
pub fn release(file: &File) -> io::Result<()> {
    set(file, libc::F_OFD_SETLK, libc::F_UNLCK)
}

/// A file with a lock as [`take`] gives it. Dropping this gives the lock up.
#[derive(Debug)]
pub struct Exclusive(File);

impl Exclusive {
    /// Takes the lock. None if somebody else holds one.
    ///
    /// # Errors
    /// As [`take`].
    pub fn new(file: File) -> io::Result<Option<Self>> {
        Ok(match take(&file)? {
            Taken::Now => Some(Self(file)),
            Taken::ByAnother => None,
        })
    }
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        // By name: a process that is being started has the descriptor, too, for a moment.
        let _ = release(&self.0);
    }
}

/// Changes our lock on the whole of `file` to one of this kind.
fn set(file: &File, command: libc::c_int, kind: libc::c_int) -> io::Result<()> {
    let lock = whole_file(kind);
    // SAFETY: the call takes a `struct flock`, which outlives it; `file` keeps the descriptor open.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, &raw const lock) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A lock on all bytes, also on those behind the end.
fn whole_file(kind: libc::c_int) -> libc::flock {
    // SAFETY: the structure is plain numbers, for which zero is a value.
    let mut lock: libc::flock = unsafe { zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock
}

/// Whether a lock for writing on the whole file would meet another.
fn has_record_lock(file: &File) -> io::Result<bool> {
    let mut lock = whole_file(libc::F_WRLCK);
    // SAFETY: the call takes a `struct flock`, which outlives it; `file` keeps the descriptor open.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
    match result {
        0 => Ok(lock.l_type != libc::F_UNLCK as libc::c_short),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether an exclusive lock would have to wait. There is no way to ask but to take it for a moment.
fn has_flock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(flock(file, FlockOperation::Unlock).map(|()| false)?),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;

    use super::*;

    fn open(path: &std::path::Path) -> File {
        File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path).unwrap()
    }

    #[test]
    fn both_kinds_of_locks_of_others_are_seen_and_own_ones_do_not_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        let (ours, theirs) = (open(&path), open(&path));
        assert!(!is_held(&ours).unwrap());
        for kind in [FlockOperation::NonBlockingLockShared, FlockOperation::NonBlockingLockExclusive] {
            flock(&theirs, kind).unwrap();
            assert!(is_held(&ours).unwrap(), "{kind:?}");
            flock(&theirs, FlockOperation::Unlock).unwrap();
            assert!(!is_held(&ours).unwrap());
        }
        // As QEMU does: a lock for reading on one byte far behind the start.
        // SAFETY: the structure is plain numbers, for which zero is a value.
        let mut lock: libc::flock = unsafe { zeroed() };
        lock.l_type = libc::F_RDLCK as libc::c_short;
        (lock.l_start, lock.l_len) = (100, 1);
        // SAFETY: as in `has_record_lock`.
        assert_eq!(unsafe { libc::fcntl(theirs.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) }, 0);
        assert!(is_held(&ours).unwrap());
        drop(theirs);
        assert!(!is_held(&ours).unwrap());
    }

    #[test]
    fn one_lock_is_taken_and_goes_with_its_last_descriptor() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        let (ours, theirs, looking) = (open(&path), open(&path), open(&path));
        assert_eq!(take(&ours).unwrap(), Taken::Now);
        assert_eq!(take(&theirs).unwrap(), Taken::ByAnother);
        assert!(is_held(&looking).unwrap());
        let copy = ours.try_clone().unwrap();
        drop(ours);
        assert!(is_held(&looking).unwrap());
        drop(copy);
        assert!(!is_held(&looking).unwrap());
        flock(&theirs, FlockOperation::NonBlockingLockShared).unwrap();
        assert_eq!(take(&looking).unwrap(), Taken::ByAnother);
    }

    #[test]
    fn those_who_share_a_lock_keep_out_who_wants_it_alone_and_wait_for_him() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("connected");
        let (one, other, alone) = (open(&path), open(&path), open(&path));
        share(&one).unwrap();
        share(&other).unwrap();
        assert_eq!(take(&alone).unwrap(), Taken::ByAnother);
        release(&one).unwrap();
        assert_eq!(take(&alone).unwrap(), Taken::ByAnother);
        release(&other).unwrap();
        assert_eq!(take(&alone).unwrap(), Taken::Now);
        std::thread::scope(|scope| {
            let sharing = scope.spawn(|| share(&one));
            // Whether it waits already or comes later: it gets the lock when this one is given up.
            release(&alone).unwrap();
            sharing.join().unwrap().unwrap();
        });
        assert_eq!(take(&alone).unwrap(), Taken::ByAnother);
    }
}
