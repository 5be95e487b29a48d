//! What a guest is given: an image, of which nothing can be written, or a snapshot's writable block.
//!
//! Data goes between the page cache and the guest's memory without a copy in between.
//!
//! * `image`: runs of files, bytes and zeros, of which files may be checked. * `block`: one file.
//! * `checked`: a file's blocks against its hash tree, each the first time it is read. `tree`: where that tree lies.
//! * `fill`: reads of one file.

mod block;
mod checked;
mod fill;
mod image;
mod tree;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

pub use checked::{Content, DamagedBlock, TreeBlock};
pub use tree::{Tree, TreePlace};

use checked::Report;

pub(super) use checked::Damaged;

pub(super) use block::Block;
pub(super) use image::Image;

use super::Error;
use crate::image::extent::{ExtentMap, SECTOR};
use crate::store;

/// What a guest may do with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read.
    ReadOnly,
    /// Read, write, flush and discard.
    ReadWrite,
}

/// A file that an image's disk is made of.
#[derive(Debug)]
pub struct Part {
    /// The file, opened for reading only.
    pub file: File,
    /// Its name, for messages.
    pub path: PathBuf,
    /// What its blocks are checked against when the guest reads them. What lies behind those that the tree covers,
    /// such as the tree itself, is not.
    pub tree: Option<Tree>,
}

/// What a guest sees as one disk.
#[derive(Debug)]
pub struct Disk {
    contents: Contents,
    sectors: u64,
}

#[derive(Debug)]
pub(super) enum Contents {
    /// There is no way to write to one.
    Image(Arc<Image>),
    Block(Block),
}

impl Disk {
    /// An image that is laid out as `map` says. `parts` are the files that it names, in the order of their numbers.
    ///
    /// `report` is told of every block that is not what its tree says, once of each and of 1024 of a file at most, on the
    /// thread that answers the guest. [`log_damage`] is one.
    ///
    /// # Errors
    /// If a file is missing, is open for writing, is no regular file or is shorter than the map says, or a tree is in
    /// a form that we cannot check.
    pub fn image(
        map: ExtentMap,
        parts: Vec<Part>,
        report: impl Fn(&DamagedBlock) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let sectors = map.length() / SECTOR;
        parts.iter().try_for_each(|part| check_opened(&part.file, &part.path, OFlags::RDONLY).map(drop))?;
        let image = Image::new(map, parts, Report::new(report))?;
        Ok(Self { contents: Contents::Image(Arc::new(image)), sectors })
    }

    /// A snapshot's writable block, in a file that is open for reading and writing. Nobody else may have a lock on
    /// it; one is held until the last descriptor of this opened file is closed, and tells everybody that a virtual
    /// machine has the block.
    ///
    /// # Errors
    /// If it is not such a file, or in use.
    pub fn block(file: File, path: PathBuf) -> Result<Self, Error> {
        let bytes = check_opened(&file, &path, OFlags::RDWR)?;
        if !bytes.is_multiple_of(SECTOR) || bytes == 0 {
            return Err(Error::Size { path, bytes });
        }
        Ok(Self { contents: Contents::Block(Block::lock(file, path)?), sectors: bytes / SECTOR })
    }

    /// Its size in sectors of 512 bytes.
    #[must_use]
    pub const fn sectors(&self) -> u64 {
        self.sectors
    }

    /// What a guest may do with it.
    #[must_use]
    pub const fn access(&self) -> Access {
        match self.contents {
            Contents::Image(_) => Access::ReadOnly,
            Contents::Block(_) => Access::ReadWrite,
        }
    }

    pub(super) const fn contents(&self) -> &Contents {
        &self.contents
    }
}

/// Says in the log which block of which file is damaged, and what that belongs to.
pub fn log_damage(block: &DamagedBlock) {
    let DamagedBlock { content, file, offset, tree, owners } = block;
    let file = file.display();
    match (content, tree) {
        (Content::Layer, None) => {
            tracing::error!(%file, offset, %owners, "a block is not what the layer's hash tree says: pull the image again")
        }
        (Content::Layer, Some(TreeBlock { offset: tree, .. })) => {
            tracing::error!(%file, offset, tree, %owners, "the layer's hash tree is damaged: pull the image again")
        }
        (Content::MergedMetadata, None) => {
            tracing::error!(%file, offset, "a block of the merged metadata is not what its hash tree says: {REMADE}")
        }
        (Content::MergedMetadata, Some(tree)) => {
            let (tree, tree_offset) = (tree.file.display(), tree.offset);
            tracing::error!(%file, offset, %tree, tree_offset, "the hash tree of merged metadata is damaged: {REMADE}")
        }
    }
}

/// What to do about merged metadata.
const REMADE: &str = "it follows from the layers, so have it made again (stop the daemon, delete the chain's directory, \
                      start the daemon), then end this process, which has the old one open";

/// Size in bytes of a file, which has to be a regular one, opened in this way.
fn check_opened(file: &File, path: &Path, mode: OFlags) -> Result<u64, Error> {
    let flags = rustix::fs::fcntl_getfl(file).map_err(store::Error::io("look at", path))?;
    if flags & OFlags::RWMODE != mode {
        let wanted = if mode == OFlags::RDWR { "reading and writing" } else { "reading only" };
        return Err(Error::Opened { path: path.to_owned(), wanted });
    }
    let found = file.metadata().map_err(store::Error::io("look at", path))?;
    if found.is_file() { Ok(found.len()) } else { Err(Error::NotAFile { path: path.to_owned() }) }
}
