//! Files of a device get their names when they are on the disk, and only once.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::{Error, FILE_MODE};
use crate::store;

/// Writes a small file, and waits until it is on the disk.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path);
    let mut file = file.map_err(store::Error::io("create", path))?;
    file.write_all(bytes).map_err(store::Error::io("write", path))?;
    file.sync_all().map_err(store::Error::io("sync", path))?;
    Ok(())
}

/// Moves files from one directory to another, in this order, and makes their names durable.
///
/// A name that is taken stays with what has it: someone else made the same at the same time.
pub(super) fn all(names: &[String], from: &Path, to: &Path) -> Result<(), Error> {
    for name in names {
        let (old, new) = (from.join(name), to.join(name));
        match renameat_with(CWD, &old, CWD, &new, RenameFlags::NOREPLACE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(store::Error::io("put in place", &new)(error).into()),
        }
    }
    let directory = File::open(to).and_then(|directory| directory.sync_all());
    directory.map_err(store::Error::io("sync", to))?;
    Ok(())
}
