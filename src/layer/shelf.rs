//! The directories that hold the layers: `ROOT/layers/KEY/layer.erofs`, with `layer.json` beside it, and
//! `layer.erofs.dmverity` if the file ends with a dm-verity tree.

use std::fs;
use std::path::{Path, PathBuf};

use super::{LayerKey, LayerRecord, Protection, Verity, protection};
use crate::store::staging::Scratch;
use crate::store::tree::DiskUsage;
use crate::store::{Error, sidecar, sync_directory};

/// Base name of a layer's file. Virtual machine runtimes recognise a layer by it.
pub const IMAGE_NAME: &str = "layer.erofs";
/// Base name of the file that tells runtimes of the layer's dm-verity tree.
pub const VERITY_NAME: &str = "layer.erofs.dmverity";
const RECORD_NAME: &str = "layer.json";

/// A layer in the making: a private directory that is deleted on drop.
#[derive(Debug)]
pub struct Staging {
    scratch: Scratch,
}

impl Staging {
    /// Makes a layer in `scratch`.
    #[must_use]
    pub const fn new(scratch: Scratch) -> Self {
        Self { scratch }
    }

    /// Where the builder writes the layer's file.
    #[must_use]
    pub fn layer_path(&self) -> PathBuf {
        self.scratch.path().join(IMAGE_NAME)
    }

    /// Protects the file, writes the record beside it and makes both names durable. The file's data must be
    /// already.
    ///
    /// # Errors
    /// If the file is not there with the size that the record says, if it cannot be sealed with fs-verity
    /// and is to be, or if the directory cannot be written.
    pub fn seal(self, record: LayerRecord, protection: Protection) -> Result<Sealed, Error> {
        let image = self.layer_path();
        let found = fs::metadata(&image).map_err(Error::io("look at", &image))?.len();
        if found != record.image_bytes {
            let text = format!("it has {found} bytes, its record says {}", record.image_bytes);
            return Err(Error::io("publish", &image)(std::io::Error::other(text)));
        }
        let fsverity = protection.fsverity.then(|| protection::seal(&image)).transpose()?;
        let record = LayerRecord { fsverity, ..record };
        let directory = self.scratch.path();
        if let Some(verity) = &record.verity {
            sidecar::create(&directory.join(VERITY_NAME), verity)?;
        }
        sidecar::create(&directory.join(RECORD_NAME), &record)?;
        if protection.immutable {
            protection::make_immutable(&image);
        }
        sync_directory(directory)?;
        Ok(Sealed { scratch: self.scratch, record })
    }
}

/// A complete layer that only lacks its place.
#[derive(Debug)]
pub struct Sealed {
    scratch: Scratch,
    record: LayerRecord,
}

impl Sealed {
    /// The record as it lies beside the file.
    #[must_use]
    pub const fn record(&self) -> &LayerRecord {
        &self.record
    }
}

/// All layers of the host.
#[derive(Clone, Debug)]
pub struct Shelf {
    path: PathBuf,
    protection: Protection,
}

/// What lies in a layer's directory.
#[derive(Debug)]
pub enum Found {
    /// A file of the size that the record says, the one that was sealed, and beside it what the record says of
    /// its tree.
    Whole,
    /// No file, another size, another seal, or another tree. It cannot be used.
    Broken {
        /// What is wrong, for the log.
        reason: String,
    },
}

impl Shelf {
    /// Name of its directory, below the root.
    pub const DIRECTORY: &str = "layers";

    /// Uses `path`, an existing directory.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path, protection: Protection { fsverity: false, immutable: false } }
    }

    /// The same directory, with the protection that new layers get, and by which those that have it are
    /// checked.
    #[must_use]
    pub fn with_protection(self, protection: Protection) -> Self {
        Self { protection, ..self }
    }

    /// What new layers are protected by.
    #[must_use]
    pub const fn protection(&self) -> Protection {
        self.protection
    }

    /// The directory of all layers.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of a layer.
    #[must_use]
    pub fn directory(&self, key: &LayerKey) -> PathBuf {
        self.path.join(key.as_str())
    }

    /// The file of a layer.
    #[must_use]
    pub fn image(&self, key: &LayerKey) -> PathBuf {
        self.directory(key).join(IMAGE_NAME)
    }

    /// The file that tells runtimes of a layer's dm-verity tree. Only layers with a tree have it.
    #[must_use]
    pub fn verity(&self, key: &LayerKey) -> PathBuf {
        self.directory(key).join(VERITY_NAME)
    }

    /// Gives a layer its place, which must be free. [`Shelf::sync`] makes that durable.
    ///
    /// # Errors
    /// If the place is taken or the operating system refuses; then the layer is deleted.
    pub fn place(&self, layer: Sealed) -> Result<(), Error> {
        let directory = self.directory(&layer.record.key);
        layer.scratch.publish(&directory)
    }

    /// Makes the names of all layers durable.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn sync(&self) -> Result<(), Error> {
        sync_directory(&self.path)
    }

    /// Space that a layer's file takes on disk: allocated bytes, one inode.
    ///
    /// # Errors
    /// If the file cannot be looked at.
    pub fn usage(&self, key: &LayerKey) -> Result<DiskUsage, Error> {
        let image = self.image(key);
        let stat = rustix::fs::stat(&image).map_err(Error::io("look at", &image))?;
        Ok(DiskUsage::of_inode(&stat))
    }

    /// Whether the layer's file is as its record says. The content is not read.
    #[must_use]
    pub fn check(&self, record: &LayerRecord) -> Found {
        let image = self.image(&record.key);
        match fs::symlink_metadata(&image) {
            Ok(found) if found.is_file() && found.len() == record.image_bytes => {
                match self.check_verity(record) {
                    Found::Whole => self.measure(record),
                    broken => broken,
                }
            }
            Ok(found) => {
                Found::Broken { reason: format!("{} bytes instead of {}", found.len(), record.image_bytes) }
            }
            Err(error) => Found::Broken { reason: error.to_string() },
        }
    }

    /// Whether the layer's file is still the one that was sealed with fs-verity, if it was and such seals
    /// count. What is read of such a file is checked by the file system.
    #[must_use]
    pub fn measure(&self, record: &LayerRecord) -> Found {
        let Some(expected) = record.fsverity.filter(|_| self.protection.fsverity) else {
            return Found::Whole;
        };
        match protection::measure(&self.image(&record.key)) {
            Ok(Some(found)) if found == expected => Found::Whole,
            Ok(Some(found)) => {
                Found::Broken { reason: format!("fs-verity measures {found}, sealed was {expected}") }
            }
            Ok(None) => {
                Found::Broken { reason: "it was sealed with fs-verity, and is not any more".to_owned() }
            }
            Err(error) => Found::Broken { reason: error.to_string() },
        }
    }

    fn check_verity(&self, record: &LayerRecord) -> Found {
        let Some(expected) = &record.verity else { return Found::Whole };
        match sidecar::read::<Verity>(&self.verity(&record.key)) {
            Ok(found) if found == *expected => Found::Whole,
            Ok(_) => Found::Broken { reason: format!("{VERITY_NAME} is of another tree") },
            Err(error) => Found::Broken { reason: error.to_string() },
        }
    }

    /// Writes beside a layer's file again what runtimes are told of its tree. True if it was not there, or
    /// not as the record says.
    ///
    /// # Errors
    /// If the directory cannot be written.
    pub fn restore_verity(&self, record: &LayerRecord) -> Result<bool, Error> {
        let Some(verity) = &record.verity else { return Ok(false) };
        let path = self.verity(&record.key);
        if sidecar::read::<Verity>(&path).is_ok_and(|found| found == *verity) {
            return Ok(false);
        }
        sidecar::write(&path, verity, sidecar::Durability::Synced).map(|()| true)
    }

    /// Writes the record beside the layer's file again.
    ///
    /// # Errors
    /// If the directory cannot be written.
    pub fn write_record(&self, record: &LayerRecord) -> Result<(), Error> {
        sidecar::write(&self.directory(&record.key).join(RECORD_NAME), record, sidecar::Durability::Relaxed)
    }

    /// The record beside a layer's file.
    ///
    /// # Errors
    /// If it is not there or is not one.
    pub fn read_record(&self, key: &LayerKey) -> Result<LayerRecord, Error> {
        sidecar::read(&self.directory(key).join(RECORD_NAME))
    }
}
