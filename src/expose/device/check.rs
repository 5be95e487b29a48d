//! Whether a descriptor's files are still there.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use super::Error;
use crate::image::extent::SECTOR;
use crate::image::vmdk::Descriptor;
use crate::store;

/// How much of a descriptor is read, in bytes. None that we write is so long.
const LONGEST: u64 = 1 << 20;

/// Reads a descriptor that [`make`](super::make) wrote, and looks whether each of its files is there and long enough.
///
/// # Errors
/// If the descriptor is not one of ours, or a file is missing, too short, or not a regular file.
pub fn check(descriptor: &Path) -> Result<Descriptor, Error> {
    let parsed = Descriptor::parse(&text(descriptor)?)
        .map_err(|source| Error::Foreign { path: descriptor.to_owned(), source })?;
    for extent in parsed.extents() {
        let path = Path::new(extent.path.as_str());
        let found = fs::symlink_metadata(path).map_err(store::Error::io("look at", path))?;
        if !found.is_file() {
            return Err(Error::NotAFile { path: path.to_owned() });
        }
        let (found, needed) = (found.len(), extent.sectors * SECTOR);
        if found < needed {
            let descriptor = descriptor.to_owned();
            return Err(Error::Short { path: path.to_owned(), descriptor, found, needed });
        }
    }
    Ok(parsed)
}

/// What a descriptor says. What is no text becomes one that no descriptor has.
pub(super) fn text(descriptor: &Path) -> Result<String, Error> {
    let mut bytes = Vec::new();
    File::open(descriptor)
        .and_then(|file| file.take(LONGEST).read_to_end(&mut bytes))
        .map_err(store::Error::io("read", descriptor))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
