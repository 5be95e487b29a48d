//! Layer caches: directories of finished layer files, which the operator fills and keeps.
//!
//! ```text
//! DIRECTORY/sha256/XX/HEX.erofs           the layer with the diffID sha256:HEX, which begins with XX
//! DIRECTORY/sha256/XX/HEX.erofs.dmverity  the parameters of its dm-verity tree, where the file has one
//! DIRECTORY/sha256/XX/HEX.json            its record, where this project made the file
//! ```
//!
//! The layout is that of containerd's `layer_content_caches` (erofs snapshotter, `CacheBlobPath`), which
//! does not know the record and does not mind it. A file is taken only if it is of this project's image
//! layout: a layer has the same bytes on every host, whatever caches that has.
//!
//! * [`entry`]: one file, and whether it can be taken. * [`slot`]: a file in the making.
//! * [`transfer`]: a file from one place to another, sharing its blocks where that is possible.
//! * [`proof`]: whether a file is what the builder would make of a tar.

pub mod entry;
pub mod proof;
pub mod slot;
pub mod transfer;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use entry::{Entry, Invalid};
pub use slot::Slot;

use crate::image::digest::Digest;
use crate::store;

/// The only digest algorithm of diffIDs that there is.
const ALGORITHM: &str = "sha256";
/// Ends the names of layer files, behind a point.
const IMAGE_EXTENSION: &str = "erofs";
/// Ends the names of records, behind a point.
const RECORD_EXTENSION: &str = "json";
/// Ends the names of files with the parameters of dm-verity trees, behind a point.
const VERITY_EXTENSION: &str = "erofs.dmverity";

/// A directory of layer files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerCache {
    directory: PathBuf,
}

impl LayerCache {
    /// The cache in `directory`, which need not exist until something is put into it.
    #[must_use]
    pub const fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where the layer with this diffID is, or would be.
    #[must_use]
    pub fn path_of(&self, diff_id: &Digest) -> PathBuf {
        let hex = diff_id.hex();
        let shelf = hex.get(..2).unwrap_or_default();
        self.directory.join(ALGORITHM).join(shelf).join(&hex).with_extension(IMAGE_EXTENSION)
    }

    /// The layer with this diffID, unless the cache has no such file. It may be damaged: see [`Entry::check`].
    #[must_use]
    pub fn find(&self, diff_id: &Digest) -> Option<Entry> {
        let path = self.path_of(diff_id);
        path.symlink_metadata().is_ok().then(|| Entry::new(path, *diff_id))
    }

    /// Everything in the cache, by diffID. Files with other names are passed over.
    ///
    /// # Errors
    /// If a directory cannot be read. A cache that does not exist is empty.
    pub fn entries(&self) -> Result<Vec<Entry>, store::Error> {
        let mut entries = Vec::new();
        for shelf in children(&self.directory.join(ALGORITHM))? {
            entries.extend(children(&shelf)?.into_iter().filter_map(|path| self.entry_at(path)));
        }
        entries.sort_by_key(Entry::diff_id);
        Ok(entries)
    }

    /// A place to make a layer file in, which is put under its diffID when it is finished.
    ///
    /// # Errors
    /// If the directory cannot be made or written.
    pub fn slot(&self) -> Result<Slot, store::Error> {
        Slot::new(self)
    }

    /// The entry of a file that lies where its name says.
    fn entry_at(&self, path: PathBuf) -> Option<Entry> {
        let hex = path.file_stem()?.to_str()?;
        let diff_id: Digest = format!("{ALGORITHM}:{hex}").parse().ok()?;
        (path == self.path_of(&diff_id)).then(|| Entry::new(path, diff_id))
    }
}

/// The children of a directory, or none where there is no directory.
fn children(directory: &Path) -> Result<Vec<PathBuf>, store::Error> {
    let failed = |source| store::Error::Io { operation: "read", path: directory.to_owned(), source };
    match fs::read_dir(directory) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        children => {
            children.and_then(|children| children.map(|child| Ok(child?.path())).collect()).map_err(failed)
        }
    }
}

#[cfg(test)]
mod tests;
