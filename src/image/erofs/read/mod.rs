//! EROFS images read back: an uncompressed image into its [`Tree`] and the contents of its files.
//!
//! [`Image::open`] reads all metadata at once; [`Contents`] then gives the data of single files. It takes
//! what our own writer makes (`docs/image-layout-v1.md`) and what mkfs.erofs makes without compression:
//! compact and extended inodes, data in plain runs, behind the inode or in chunks, attributes with each
//! inode or shared, with long prefixes too. The format is the kernel's `fs/erofs/erofs_fs.h`.
//!
//! [`Image::open_foreign`] takes whatever the kernel mounts from one file: smaller blocks, data behind the
//! image as in a tar with its index, and compressed files, whose data it does not give.
//!
//! An image is foreign input. Whatever it claims, every access stays inside it, memory and work stay
//! within [`Limits`], and what is wrong or unknown is a typed [`Error`] and never half a tree.
//!
//! * `source`: bytes at positions, and a window of one block over them.
//! * `geometry`: what the superblock says about where things are.
//! * `device`: data behind the image.
//! * `inode`, `data`, `compressed`, `xattr`, `directory`: the parts of an inode.
//! * `walk`: all inodes from the root on. `limits`: how much of them is accepted.
//! * `contents`: the data of one file. * `place`: where an inode is.

mod compressed;
mod contents;
mod data;
mod device;
mod directory;
mod error;
mod geometry;
mod inode;
mod limits;
mod place;
mod source;
mod walk;
mod xattr;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;

pub use data::Tail;
pub use error::{Damage, Error, Unsupported};
pub use limits::Limits;
pub use place::InodePlace;
pub use source::ReadAt;

use super::superblock::Superblock;
use crate::image::tree::{Contents, InodeId, Node, Tree};
use contents::FileReader;
use geometry::{Geometry, Subset};

/// An image whose metadata was read, and the bytes that its files are read from.
pub struct Image<S> {
    source: S,
    superblock: Superblock,
    tree: Tree,
    tails: BTreeMap<InodeId, Tail>,
    compressed: BTreeSet<InodeId>,
    left: Limits,
}

impl<S: ReadAt> Image<S> {
    /// Reads the metadata of the image at the start of `source`.
    ///
    /// # Errors
    /// [`Error`] says what is damaged, unknown or too much, and where.
    pub fn open(source: S, limits: &Limits) -> Result<Self, Error> {
        Self::open_subset(source, Subset::Plain, limits)
    }

    /// Reads the metadata of an image in a file of `file_bytes` bytes that the kernel is to mount, whoever made
    /// it. Its extents count blocks of its own size, so they are for [`Contents`] only.
    ///
    /// # Errors
    /// [`Error`] says what is damaged, unknown or too much, and where.
    pub fn open_foreign(source: S, file_bytes: u64, limits: &Limits) -> Result<Self, Error> {
        Self::open_subset(source, Subset::Foreign { file_bytes }, limits)
    }

    fn open_subset(source: S, subset: Subset, limits: &Limits) -> Result<Self, Error> {
        let (superblock, geometry) = Geometry::read(&source, subset)?;
        let walked = walk::walk(&source, &geometry, limits, None)?;
        let walk::Walked { tree, tails, compressed, left, .. } = walked;
        Ok(Self { source, superblock, tree, tails, compressed, left })
    }

    /// Whether the data of any file is compressed, so that it cannot be read here.
    #[must_use]
    pub fn is_compressed(&self) -> bool {
        !self.compressed.is_empty()
    }

    /// Whether the data of this file is compressed.
    #[must_use]
    pub fn is_compressed_file(&self, inode: InodeId) -> bool {
        self.compressed.contains(&inode)
    }

    /// Reads the metadata as [`Image::open`] does, and tells for each inode of the tree where it is.
    ///
    /// # Errors
    /// As [`Image::open`].
    pub fn survey(source: S, limits: &Limits) -> Result<(Self, Vec<InodePlace>), Error> {
        Self::survey_subset(source, Subset::Plain, limits)
    }

    /// Reads the metadata as [`Image::open_foreign`] does, and tells for each inode of the tree where it is. Places
    /// count blocks of the image's own size, too, and the data of compressed files has none.
    ///
    /// # Errors
    /// As [`Image::open_foreign`].
    pub fn survey_foreign(
        source: S,
        file_bytes: u64,
        limits: &Limits,
    ) -> Result<(Self, Vec<InodePlace>), Error> {
        Self::survey_subset(source, Subset::Foreign { file_bytes }, limits)
    }

    fn survey_subset(source: S, subset: Subset, limits: &Limits) -> Result<(Self, Vec<InodePlace>), Error> {
        let (superblock, geometry) = Geometry::read(&source, subset)?;
        let walked = walk::walk(&source, &geometry, limits, Some(Vec::new()))?;
        let walk::Walked { tree, tails, compressed, places, left } = walked;
        Ok((Self { source, superblock, tree, tails, compressed, left }, places.unwrap_or_default()))
    }

    /// What it left of the limits that it was opened with: those for the next of several that are kept in memory
    /// together.
    #[must_use]
    pub const fn left(&self) -> Limits {
        self.left
    }

    /// What the superblock says.
    #[must_use]
    pub const fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// The file tree. The extents of a file with a [tail](Self::tail) lack its last bytes.
    #[must_use]
    pub const fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Whether the end of any file is stored behind its inode instead of in a block. Layout v1 has none.
    #[must_use]
    pub fn has_tails(&self) -> bool {
        !self.tails.is_empty()
    }

    /// The end of a file that is stored behind its inode instead of in a block. Layout v1 has none.
    #[must_use]
    pub fn tail(&self, inode: InodeId) -> Option<Tail> {
        self.tails.get(&inode).copied()
    }
}

impl<S: ReadAt> Contents for Image<S> {
    fn open(&self, inode: InodeId) -> io::Result<Box<dyn io::Read + '_>> {
        match self.tree.inodes.get(inode.0 as usize).map(|inode| &inode.node) {
            Some(Node::Regular(_)) if self.compressed.contains(&inode) => {
                Err(io::Error::new(io::ErrorKind::Unsupported, Unsupported::Compression))
            }
            Some(Node::Regular(data)) => {
                let block_size = self.superblock.block_size();
                Ok(Box::new(FileReader::new(&self.source, block_size, data, self.tail(inode))))
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file of the image")),
        }
    }
}

impl<S> fmt::Debug for Image<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image")
            .field("superblock", &self.superblock)
            .field("inodes", &self.tree.inodes.len())
            .finish_non_exhaustive()
    }
}
