//! Files that the tool makes: written under a name that nobody looks for, synced, then renamed.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::error::Error;
use crate::store::unique::Unique;
use crate::store::{self, sidecar};

const DIRECTORY_MODE: u32 = 0o755;

/// A directory that files are put into.
#[derive(Clone, Debug)]
pub(super) struct Output {
    directory: PathBuf,
    /// Whether files that are there are replaced.
    replace: bool,
}

/// A file in the making. It is deleted on drop unless it was published.
#[derive(Debug)]
pub(super) struct Draft {
    path: PathBuf,
}

impl Output {
    /// Uses `directory`, which is made if it is missing.
    pub(super) fn create(directory: &Path, replace: bool) -> Result<Self, Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(directory)
            .map_err(store::Error::io("create", directory))?;
        Ok(Self { directory: directory.to_owned(), replace })
    }

    /// Whether files that are there are replaced.
    pub(super) const fn replaces(&self) -> bool {
        self.replace
    }

    /// Where the file of this name goes.
    pub(super) fn place(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A file to be written. Nothing is there yet.
    pub(super) fn draft(&self) -> Result<Draft, Error> {
        let unique = Unique::new().map_err(store::Error::io("name a file in", &self.directory))?;
        Ok(Draft { path: self.directory.join(format!(".{unique}.tmp")) })
    }

    /// Gives a file its name. It is on disk when this returns.
    pub(super) fn publish(&self, draft: Draft, name: &str) -> Result<PathBuf, Error> {
        let place = self.place(name);
        let synced = File::open(&draft.path).and_then(|file| file.sync_all());
        synced.map_err(store::Error::io("sync", &draft.path))?;
        let flags = if self.replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        match renameat_with(CWD, &draft.path, CWD, &place, flags) {
            Err(Errno::EXIST) => return Err(Error::Exists { path: place }),
            renamed => renamed.map_err(store::Error::io("rename to", &place))?,
        }
        store::sync_directory(&self.directory)?;
        Ok(place)
    }

    /// Writes a file of JSON, in place of any that is there.
    pub(super) fn write_json<T: serde::Serialize>(&self, value: &T, name: &str) -> Result<PathBuf, Error> {
        let place = self.place(name);
        sidecar::write(&place, value, sidecar::Durability::Synced)?;
        Ok(place)
    }
}

impl Draft {
    /// Where to write the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After a publication nothing has this name any more.
        let _ = fs::remove_file(&self.path);
    }
}
