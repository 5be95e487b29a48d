//! The hash tree that the blocks of a file are checked against, and where it lies.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nexuserofs_guest::verity::Parameters;
use rustix::fs::OFlags;

use super::check_opened;
use crate::expose::vhost_user::Error;
use crate::image::erofs::read::ReadAt;
use crate::image::tree::BLOCK_SIZE;
use crate::image::verity::Geometry;

/// The hash tree of a file.
#[derive(Debug)]
pub struct Tree {
    /// Its form and its root hash.
    pub parameters: Parameters,
    /// Where it is.
    pub place: TreePlace,
}

/// Where a file's hash tree is.
#[derive(Debug)]
pub enum TreePlace {
    /// In the same file, behind what it covers: the tree of a layer.
    Behind,
    /// In a file of its own, which begins with the superblock. It covers a device whose first bytes are the file's: the
    /// tree over merged metadata and all layers. Only what it says of the metadata is needed here.
    Apart {
        /// The tree's file, opened for reading only.
        file: File,
        /// Its name, for messages.
        path: PathBuf,
    },
}

impl Tree {
    /// How many bytes of the file `path`, which has `bytes` of them, the tree covers.
    ///
    /// # Errors
    /// If the tree has another form than ours, or is not one over this file.
    pub(super) fn covered(&self, path: &Path, bytes: u64) -> Result<u64, Error> {
        let form = || Error::Tree { path: path.to_owned() };
        let (geometry, _) = Geometry::of(&self.parameters).ok_or_else(form)?;
        match &self.place {
            TreePlace::Behind => Ok(geometry.hash_offset()),
            TreePlace::Apart { file, path: tree } => {
                let found = check_opened(file, tree, OFlags::RDONLY)?;
                let needed = geometry.file_size() - geometry.hash_offset();
                let is_over_it = bytes.is_multiple_of(BLOCK_SIZE) && bytes <= geometry.hash_offset();
                match found == needed && is_over_it {
                    true => Ok(bytes),
                    false => Err(Error::OtherTree { path: path.to_owned(), tree: tree.clone() }),
                }
            }
        }
    }

    /// The tree's file, where `own` is the file that the tree is of.
    pub(super) const fn file<'f>(&'f self, own: &'f File) -> &'f File {
        match &self.place {
            TreePlace::Behind => own,
            TreePlace::Apart { file, .. } => file,
        }
    }

    /// Name of the tree's file, where `own` is that of the file that the tree is of.
    pub(super) fn path<'p>(&'p self, own: &'p Path) -> &'p Path {
        match &self.place {
            TreePlace::Behind => own,
            TreePlace::Apart { path, .. } => path,
        }
    }
}

/// A file as the tree's reader wants it, whose first byte is byte `start` of the device that the tree is in.
#[derive(Debug)]
pub(super) struct Source<'f> {
    pub(super) file: &'f File,
    pub(super) start: u64,
}

impl ReadAt for Source<'_> {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let offset = offset.checked_sub(self.start).ok_or(io::ErrorKind::InvalidInput)?;
        self.file.read_exact_at(buffer, offset)
    }
}
