//! A file of a cache in the making: written under a name that nobody looks for, synced, then renamed.

use std::fs::{self, DirBuilder, File, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Entry, LayerCache, RECORD_EXTENSION, VERITY_EXTENSION};
use crate::image::digest::Digest;
use crate::layer::LayerRecord;
use crate::store::sidecar::{self, Durability};
use crate::store::unique::Unique;
use crate::store::{Error, sync_directory};

/// Virtual machine monitors may run as another user.
const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;

/// A file in the making. It is deleted on drop unless it was published.
#[derive(Debug)]
pub struct Slot {
    cache: LayerCache,
    path: PathBuf,
}

impl Slot {
    pub(super) fn new(cache: &LayerCache) -> Result<Self, Error> {
        make_directory(cache.directory())?;
        let unique = Unique::new().map_err(Error::io("name a file in", cache.directory()))?;
        Ok(Self { cache: cache.clone(), path: cache.directory().join(format!(".{unique}.tmp")) })
    }

    /// Where to write the file. Nothing is there yet.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the file under this diffID, with its record beside it, in place of any that is there. Both are
    /// on disk when this returns.
    ///
    /// # Errors
    /// If the operating system refuses. What was in the cache is there still.
    pub fn publish(self, diff_id: Digest, record: &LayerRecord) -> Result<Entry, Error> {
        let place = self.cache.path_of(&diff_id);
        let shelf = place.parent().unwrap_or(self.cache.directory());
        make_directory(shelf)?;
        fs::set_permissions(&self.path, Permissions::from_mode(FILE_MODE))
            .and_then(|()| File::open(&self.path)?.sync_all())
            .map_err(Error::io("sync", &self.path))?;
        // These come first: a file is an entry from the moment that it has its name.
        write_beside(&place.with_extension(RECORD_EXTENSION), record)?;
        let parameters = place.with_extension(VERITY_EXTENSION);
        match &record.verity {
            Some(verity) => write_beside(&parameters, verity)?,
            None => remove_if_there(&parameters)?,
        }
        fs::rename(&self.path, &place).map_err(Error::io("rename to", &place))?;
        sync_directories(shelf, self.cache.directory())?;
        Ok(Entry::new(place, diff_id))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // After a publication nothing has this name any more.
        let _ = fs::remove_file(&self.path);
    }
}

/// Writes a file that lies beside a layer's, for whoever may read that.
fn write_beside(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    sidecar::write(path, value, Durability::Synced)?;
    fs::set_permissions(path, Permissions::from_mode(FILE_MODE)).map_err(Error::io("set the mode of", path))
}

/// Removes what tells of the tree of a file that is being replaced.
fn remove_if_there(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path).map_err(Error::io("remove", path)) {
        Err(error) if error.is_not_found() => Ok(()),
        removed => removed,
    }
}

fn make_directory(path: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path).map_err(Error::io("create", path))
}

/// Makes the names in `lowest` and in each directory above it up to `highest` durable.
fn sync_directories(lowest: &Path, highest: &Path) -> Result<(), Error> {
    for directory in lowest.ancestors().take_while(|directory| directory.starts_with(highest)) {
        sync_directory(directory)?;
    }
    Ok(())
}
