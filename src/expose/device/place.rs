//! Files of a device get their names when they are on the disk, and only once.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::{Error, FILE_MODE};
use crate::store;

/// Largest file of which the bytes are compared: no descriptor, head or pad is larger.
const COMPARED: u64 = 2 << 20;

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
/// A name that is taken stays with what has it: someone else made the same at the same time, or a crash came between
/// two names.
///
/// # Errors
/// If what has a name is something else: then the layers were others at that time.
pub(super) fn all(names: &[String], from: &Path, to: &Path) -> Result<(), Error> {
    for name in names {
        let (old, new) = (from.join(name), to.join(name));
        match renameat_with(CWD, &old, CWD, &new, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::EXIST) if is_same(&old, &new)? => {}
            Err(Errno::EXIST) => return Err(Error::Stale { path: new }),
            Err(error) => return Err(store::Error::io("put in place", &new)(error).into()),
        }
    }
    Ok(store::sync_directory(to)?)
}

/// Whether two files are the same, as far as their sizes tell, and the bytes of small ones.
fn is_same(one: &Path, other: &Path) -> Result<bool, Error> {
    let size =
        |path: &Path| fs::metadata(path).map(|found| found.len()).map_err(store::Error::io("look at", path));
    let bytes = |path: &Path| fs::read(path).map_err(store::Error::io("read", path));
    let (here, there) = (size(one)?, size(other)?);
    Ok(here == there && (here > COMPARED || bytes(one)? == bytes(other)?))
}
