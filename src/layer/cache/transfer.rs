//! A layer file from one place to another: sharing its blocks, then its inode, and copied where neither works.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::ioctl_ficlone;

use crate::store::Error;

/// Mode of a layer file: a virtual machine monitor that runs as another user may read it.
const FILE_MODE: u32 = 0o644;

/// How a file was transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// A file of its own that shares its blocks until one of the two is changed.
    Cloned,
    /// A second name of the same file.
    Linked,
    /// A file of its own.
    Copied,
}

impl Transfer {
    /// For the log.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Cloned => "cloned",
            Self::Linked => "linked",
            Self::Copied => "copied",
        }
    }
}

/// What is to become of the file at its new place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It is only read: a second name of the same file will do.
    Read,
    /// It is changed: it has to be a file of its own.
    Change,
}

/// Makes `to`, which must not exist, the same file as `from`, and its data durable. Its name is not.
///
/// # Errors
/// If the operating system refuses. Then `to` does not exist.
pub fn transfer(from: &Path, to: &Path, purpose: Purpose) -> Result<Transfer, Error> {
    let source = File::open(from).map_err(Error::io("open", from))?;
    let made = make(from, &source, to, purpose).and_then(|how| {
        // A second name of a file whose writer may never have synced it.
        File::open(to)?.sync_data()?;
        Ok(how)
    });
    made.map_err(|error| {
        // The transfer's own error says more than one about the clean-up would.
        let _ = fs::remove_file(to);
        Error::io("make", to)(error)
    })
}

fn make(from: &Path, source: &File, to: &Path, purpose: Purpose) -> io::Result<Transfer> {
    let target = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(to)?;
    if ioctl_ficlone(&target, source).is_ok() {
        return Ok(Transfer::Cloned);
    }
    fs::remove_file(to)?;
    if purpose == Purpose::Read && fs::hard_link(from, to).is_ok() {
        return Ok(Transfer::Linked);
    }
    let mut target = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(to)?;
    io::copy(&mut &*source, &mut target)?;
    Ok(Transfer::Copied)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn the_file_is_the_same_and_on_one_file_system_takes_no_space() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        fs::write(&from, [7; 8192]).unwrap();
        let how = transfer(&from, &to, Purpose::Read).unwrap();
        assert_ne!(how, Transfer::Copied);
        assert_eq!(fs::read(&to).unwrap(), [7; 8192]);
        let same = fs::metadata(&from).unwrap().ino() == fs::metadata(&to).unwrap().ino();
        assert_eq!(same, how == Transfer::Linked);
    }

    #[test]
    fn a_file_that_will_be_changed_is_another_file() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        fs::write(&from, [7; 8192]).unwrap();
        transfer(&from, &to, Purpose::Change).unwrap();
        fs::write(&to, "changed").unwrap();
        assert_eq!(fs::read(&from).unwrap(), [7; 8192]);
    }

    #[test]
    fn what_is_there_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        fs::write(&from, "new").unwrap();
        assert!(transfer(&from.join("nothing"), &to, Purpose::Read).is_err());
        assert!(!to.exists());
    }
}
