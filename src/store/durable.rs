//! Names that survive a power cut.

use std::fs::File;
use std::path::Path;

use super::Error;

/// Makes the names in a directory durable.
///
/// # Errors
/// If the directory cannot be opened, or the disk fails.
pub fn sync_directory(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(Error::io("sync", path))
}
