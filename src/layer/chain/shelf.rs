//! The directories that hold the chains: `ROOT/chains/KEY/fsmeta.erofs`, with `chain.json` beside it.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::build::Built;
use super::{ChainKey, ChainRecord, Outcome};
use crate::layer::LayerKey;
use crate::store::staging::Scratch;
use crate::store::{Error, sidecar, sync_directory};

/// Base name of a chain's image, by which virtual machine runtimes know it.
pub const IMAGE_NAME: &str = "fsmeta.erofs";
/// Base name of the hash tree over image and layers. On one device it follows them.
pub const TREE_NAME: &str = "merged.verity";
/// A chain's record, beside its image.
pub const RECORD_NAME: &str = "chain.json";

/// Mode of the image: a virtual machine monitor that runs as another user may read it.
const FILE_MODE: u32 = 0o644;

/// All chains of the host that are whole.
#[derive(Debug)]
pub struct ChainShelf {
    path: PathBuf,
    chains: Mutex<BTreeMap<ChainKey, Arc<ChainRecord>>>,
}

/// A complete chain that only lacks its place.
#[derive(Debug)]
pub struct Sealed {
    scratch: Scratch,
    record: ChainRecord,
}

/// Writes image and record of a chain into `scratch` and makes them durable.
///
/// # Errors
/// If the directory cannot be written.
pub fn seal(scratch: Scratch, built: &Built, record: ChainRecord) -> Result<Sealed, Error> {
    let directory = scratch.path();
    if matches!(built.outcome, Outcome::Merged { .. }) {
        write_file(&directory.join(IMAGE_NAME), &built.image)?;
    }
    if !built.tree.is_empty() {
        write_file(&directory.join(TREE_NAME), &built.tree)?;
    }
    sidecar::create(&directory.join(RECORD_NAME), &record)?;
    sync_directory(directory)?;
    Ok(Sealed { scratch, record })
}

impl Sealed {
    /// The directory in which it is now. What else belongs beside the image is written there.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// The image, where it is now.
    #[must_use]
    pub fn image(&self) -> PathBuf {
        self.directory().join(IMAGE_NAME)
    }
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path);
    let mut file = file.map_err(Error::io("create", path))?;
    file.write_all(bytes).map_err(Error::io("write", path))?;
    file.sync_data().map_err(Error::io("sync", path))
}

impl ChainShelf {
    /// Name of its directory, below the root.
    pub const DIRECTORY: &str = "chains";

    /// Uses `path`, an existing directory, and reads the records in it. Directories without a whole chain
    /// count as none.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn open(path: PathBuf) -> Result<Self, Error> {
        let shelf = Self { path, chains: Mutex::default() };
        for entry in fs::read_dir(&shelf.path).map_err(Error::io("read", &shelf.path))? {
            let name = entry.map_err(Error::io("read", &shelf.path))?.file_name();
            let Some(key) = name.to_str().and_then(|name| name.parse::<ChainKey>().ok()) else { continue };
            match shelf.read(&key) {
                Ok(record) => shelf.keep(record),
                Err(reason) => tracing::warn!(chain = %key, reason, "a chain is not whole: it is made again"),
            }
        }
        Ok(shelf)
    }

    /// The directory of all chains.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of a chain.
    #[must_use]
    pub fn directory(&self, key: &ChainKey) -> PathBuf {
        self.path.join(key.as_str())
    }

    /// The image of a chain.
    #[must_use]
    pub fn image(&self, key: &ChainKey) -> PathBuf {
        self.directory(key).join(IMAGE_NAME)
    }

    /// A chain, if it is here.
    #[must_use]
    pub fn get(&self, key: &ChainKey) -> Option<Arc<ChainRecord>> {
        self.chains().get(key).map(Arc::clone)
    }

    /// The keys of all chains that are here.
    #[must_use]
    pub fn keys(&self) -> Vec<ChainKey> {
        self.chains().keys().cloned().collect()
    }

    /// Gives a chain its place, which must be free. [`ChainShelf::sync`] makes that durable.
    ///
    /// # Errors
    /// If the place is taken or the operating system refuses; then the chain is deleted.
    pub fn place(&self, chain: Sealed) -> Result<(), Error> {
        let Sealed { scratch, record } = chain;
        scratch.publish(&self.directory(&record.key))?;
        self.keep(record);
        Ok(())
    }

    /// Makes the names of all chains durable.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn sync(&self) -> Result<(), Error> {
        sync_directory(&self.path)
    }

    /// Forgets the chains with this layer. Their directories are the caller's to delete.
    pub fn forget_with(&self, layer: &LayerKey) -> Vec<ChainKey> {
        self.forget(|record| record.has(layer))
    }

    /// Forgets the chains of which this is true. Their directories are the caller's to delete.
    pub fn forget(&self, is_gone: impl Fn(&ChainRecord) -> bool) -> Vec<ChainKey> {
        let mut chains = self.chains();
        let gone: Vec<_> =
            chains.values().filter(|record| is_gone(record)).map(|record| record.key.clone()).collect();
        for key in &gone {
            chains.remove(key);
        }
        gone
    }

    fn keep(&self, record: ChainRecord) {
        self.chains().insert(record.key.clone(), Arc::new(record));
    }

    /// The record in a chain's directory, if that has all that it should.
    fn read(&self, key: &ChainKey) -> Result<ChainRecord, String> {
        let path = self.directory(key).join(RECORD_NAME);
        let record: ChainRecord = sidecar::read(&path).map_err(|error| error.to_string())?;
        if record.key != *key || !record.is_consistent() {
            return Err("its record is of another chain".to_owned());
        }
        if let Outcome::Merged { image_bytes, verity } = &record.outcome {
            check(&self.image(key), *image_bytes)?;
            if let Some(verity) = verity {
                let geometry = verity.geometry();
                check(&self.directory(key).join(TREE_NAME), geometry.file_size() - geometry.hash_offset())?;
            }
        }
        Ok(record)
    }

    fn chains(&self) -> MutexGuard<'_, BTreeMap<ChainKey, Arc<ChainRecord>>> {
        // Each step leaves the map whole, so a panic elsewhere does no harm.
        self.chains.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says what is wrong with a file that is to have so many bytes.
fn check(path: &Path, bytes: u64) -> Result<(), String> {
    let found = fs::symlink_metadata(path).map_err(|error| error.to_string())?;
    match found.is_file() && found.len() == bytes {
        true => Ok(()),
        false => Err(format!("{} has {} bytes instead of {bytes}", path.display(), found.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::ChainLayer;
    use super::*;
    use crate::image::digest::Digest;
    use crate::store::staging::StagingArea;

    fn placed(root: &Path, outcome: Outcome, image: &[u8]) -> (ChainShelf, ChainKey, LayerKey) {
        for name in ["chains", "staging"] {
            fs::create_dir(root.join(name)).unwrap();
        }
        let layer = LayerKey::new(1, &Digest::of(b"layer"));
        let layers = vec![ChainLayer { key: layer.clone(), bytes: 4096 }];
        let record = ChainRecord::new(layers, outcome.clone());
        let key = record.key.clone();
        let scratch = StagingArea::new(root.join("staging")).scratch().unwrap();
        let built = Built { outcome, image: image.to_vec(), tree: Vec::new() };
        let shelf = ChainShelf::open(root.join("chains")).unwrap();
        shelf.place(seal(scratch, &built, record).unwrap()).unwrap();
        shelf.sync().unwrap();
        (shelf, key, layer)
    }

    #[test]
    fn a_chain_is_there_until_one_of_its_layers_goes() {
        let root = tempfile::tempdir().unwrap();
        let (shelf, key, layer) =
            placed(root.path(), Outcome::Merged { image_bytes: 5, verity: None }, b"image");
        assert_eq!(fs::read(shelf.image(&key)).unwrap(), b"image");
        let again = ChainShelf::open(shelf.path().to_owned()).unwrap();
        assert_eq!(again.get(&key), shelf.get(&key));
        assert!(shelf.forget_with(&LayerKey::new(1, &Digest::of(b"other"))).is_empty());
        assert_eq!(shelf.forget_with(&layer), std::slice::from_ref(&key));
        assert!(shelf.get(&key).is_none());
    }

    #[test]
    fn what_is_not_whole_counts_as_none() {
        let root = tempfile::tempdir().unwrap();
        let (shelf, key, _) = placed(root.path(), Outcome::Merged { image_bytes: 5, verity: None }, b"image");
        fs::write(shelf.image(&key), "cut").unwrap();
        assert!(ChainShelf::open(shelf.path().to_owned()).unwrap().get(&key).is_none());
        fs::write(shelf.image(&key), "again").unwrap();
        assert!(ChainShelf::open(shelf.path().to_owned()).unwrap().get(&key).is_some());
        fs::write(shelf.directory(&key).join(RECORD_NAME), "{}").unwrap();
        assert!(ChainShelf::open(shelf.path().to_owned()).unwrap().get(&key).is_none());
    }

    #[test]
    fn layers_that_cannot_be_merged_are_remembered() {
        let root = tempfile::tempdir().unwrap();
        let outcome = Outcome::Unmergeable { unmergeable: "compressed".to_owned() };
        let (shelf, key, _) = placed(root.path(), outcome.clone(), b"");
        let again = ChainShelf::open(shelf.path().to_owned()).unwrap();
        assert_eq!(again.get(&key).unwrap().outcome, outcome);
        assert!(!again.image(&key).exists());
    }
}
