//! One file of a cache, and whether it can be taken.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::num::NonZeroU64;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::RECORD_EXTENSION;
use crate::image::digest::Digest;
use crate::image::erofs::{self, InvalidSuperblock, Superblock};
use crate::image::tree::BLOCK_SIZE;
use crate::image::verity::{self, Geometry};
use crate::layer::{HashTree, LayerRecord};
use crate::store::{self, sidecar};

/// Permission bits with which somebody besides the owner could change a file.
const OTHERS_WRITE: u32 = 0o022;

/// A file of a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    path: PathBuf,
    diff_id: Digest,
}

/// What a whole file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Its size in bytes, a multiple of 4096.
    pub image_bytes: u64,
    /// Whether a dm-verity tree is a part of it.
    pub hash_tree: HashTree,
}

/// Why a file cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    /// It cannot be read.
    #[error("cannot read it: {0}")]
    Read(#[from] io::Error),
    /// A directory, a device or a link.
    #[error("it is not a regular file")]
    NotAFile,
    /// Somebody else could change it while containers run on it.
    #[error("user {uid} owns it and its mode is {mode:04o}: make it root's, with mode 0644")]
    Writable {
        /// Its owner.
        uid: u32,
        /// Its permission bits.
        mode: u32,
    },
    /// It is no EROFS image, or a damaged one.
    #[error(transparent)]
    Superblock(#[from] InvalidSuperblock),
    /// It was cut off, or something was appended.
    #[error(
        "it has {found} bytes, its superblock says {expected}, and no dm-verity tree of this layer follows"
    )]
    Size {
        /// The size of the file in bytes.
        found: u64,
        /// The size of the image in bytes.
        expected: u64,
    },
    /// Another program made it, or it is another layer.
    #[error(
        "its UUID is not the one that image layout v1 gives this layer: another program made it, or it is another layer"
    )]
    Foreign,
}

impl Entry {
    /// The file `path`, which is to be the layer with this diffID.
    #[must_use]
    pub const fn new(path: PathBuf, diff_id: Digest) -> Self {
        Self { path, diff_id }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Digest of the uncompressed tar that the layer was made of, as the file's name says.
    #[must_use]
    pub const fn diff_id(&self) -> Digest {
        self.diff_id
    }

    /// The record beside the file. None if there is none, or it is not this layer's.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub fn record(&self) -> Result<Option<LayerRecord>, store::Error> {
        match sidecar::read::<LayerRecord>(&self.path.with_extension(RECORD_EXTENSION)) {
            Ok(record) => Ok(Some(record).filter(|record| self.is_of(record))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn is_of(&self, record: &LayerRecord) -> bool {
        record.is_consistent() && record.native_diff_id() == Some(self.diff_id)
    }

    /// Looks at owner, size and superblock: whether this is a finished image of this layer, which only its
    /// owner can change. The content is not read: for that see [`super::proof`].
    ///
    /// # Errors
    /// [`Invalid`] says why it cannot be taken.
    pub fn check(&self) -> Result<Checked, Invalid> {
        let metadata = self.path.symlink_metadata()?;
        check_owner(&metadata)?;
        let file = File::open(&self.path)?;
        let superblock = Superblock::parse(&block_at(&file, 0)?)?;
        if superblock.uuid != erofs::uuid(&self.diff_id) {
            return Err(Invalid::Foreign);
        }
        let (found, expected) = (metadata.len(), superblock.image_size());
        let hash_tree = match found == expected {
            true => HashTree::Without,
            false if self.has_tree(&file, found, expected)? => HashTree::With,
            false => return Err(Invalid::Size { found, expected }),
        };
        Ok(Checked { image_bytes: found, hash_tree })
    }

    /// Whether the superblock of this layer's dm-verity tree follows an image of so many bytes, and the file,
    /// of so many bytes, ends where the tree does.
    fn has_tree(&self, file: &File, file_bytes: u64, image_bytes: u64) -> io::Result<bool> {
        let geometry = NonZeroU64::new(image_bytes / BLOCK_SIZE).and_then(Geometry::new);
        let Some(geometry) = geometry.filter(|geometry| geometry.file_size() == file_bytes) else {
            return Ok(false);
        };
        let expected = verity::Superblock::new(verity::uuid(&self.diff_id), geometry).encode();
        Ok(block_at(file, image_bytes)? == expected)
    }
}

/// At most the block at this offset.
fn block_at(file: &File, offset: u64) -> io::Result<Vec<u8>> {
    let mut block = Vec::new();
    let mut file = file;
    file.seek(SeekFrom::Start(offset))?;
    file.take(BLOCK_SIZE).read_to_end(&mut block)?;
    Ok(block)
}

fn check_owner(metadata: &Metadata) -> Result<(), Invalid> {
    if !metadata.is_file() {
        return Err(Invalid::NotAFile);
    }
    let (uid, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if uid == rustix::process::geteuid().as_raw() && mode & OTHERS_WRITE == 0 {
        Ok(())
    } else {
        Err(Invalid::Writable { uid, mode })
    }
}
