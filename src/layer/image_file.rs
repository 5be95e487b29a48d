//! A layer's file while it is written: data first, then metadata and superblock, then the dm-verity tree
//! if there is to be one, then the wait for the disk.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::hashing::{self, BlockFeed, Hashing};
use super::{HashTree, Verity};
use crate::error::{Classify, Kind, io_kind};
use crate::image::digest::Digest;
use crate::image::erofs::{self, ImageSink, Writer};
use crate::image::tree::{BLOCK_SIZE, BlockSink, Tree};
use crate::image::verity;
use crate::store::unique::Unique;
use crate::sys::writeback;

/// Mode of a layer file: a virtual machine monitor that runs as another user may read it.
pub(super) const FILE_MODE: u32 = 0o644;

/// A layer's file that data is written to.
pub(super) struct ImageFile {
    path: PathBuf,
    file: Arc<File>,
    writer: Writer<Output>,
    hashing: Option<Hashing>,
}

/// The UUIDs in a layer's file, which make it the same wherever the layer is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Uuids {
    pub(super) image: [u8; 16],
    pub(super) verity: [u8; 16],
}

/// A layer's file that is on the disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finished {
    /// Size of the file in bytes, a multiple of 4096.
    pub(super) bytes: u64,
    /// The tree, if there was to be one.
    pub(super) verity: Option<Verity>,
}

/// Why a layer's file cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tree cannot be written as EROFS.
    #[error("cannot write {path}")]
    Erofs {
        /// The layer file.
        path: PathBuf,
        /// The writer's reason.
        source: erofs::Error,
    },
    /// There is no tree.
    #[error("cannot make the dm-verity tree of {path}")]
    Tree {
        /// The layer file.
        path: PathBuf,
        /// Why not.
        source: verity::leaves::Error,
    },
    /// A file operation failed.
    #[error("cannot {operation} {path}")]
    Io {
        /// What failed.
        operation: &'static str,
        /// The layer file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Erofs { source: erofs::Error::Write(source), .. }
            | Self::Tree { source: verity::leaves::Error::Read { source, .. }, .. }
            | Self::Io { source, .. } => io_kind(source),
            // The image is our own, and every block of it was to be hashed.
            Self::Tree { .. } => Kind::Internal,
            Self::Erofs { .. } => Kind::InvalidArgument,
        }
    }
}

impl ImageFile {
    /// Creates the file `path`, which must not exist.
    pub(super) fn create(path: &Path, tree: HashTree) -> Result<Self, Error> {
        let failed = |operation| {
            let path = path.to_owned();
            move |source| Error::Io { operation, path, source }
        };
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(path);
        let file = Arc::new(file.map_err(failed("create"))?);
        let (feed, hashing) = match tree {
            HashTree::Without => (None, None),
            HashTree::With => {
                let (feed, hashing) = hashing::start().map_err(failed("start a thread for"))?;
                (Some(feed), Some(hashing))
            }
        };
        let writer = Writer::new(Output { file: Arc::clone(&file), feed });
        Ok(Self { path: path.to_owned(), file, writer, hashing })
    }

    /// Where data goes.
    pub(super) fn sink(&mut self) -> &mut impl BlockSink {
        &mut self.writer
    }

    /// Writes metadata, superblock and tree, and waits until the file is on the disk.
    pub(super) fn finish(self, tree: &Tree, uuids: Uuids) -> Result<Finished, Error> {
        let Self { path, file, writer, hashing } = self;
        let finished = writer.finish(tree, uuids.image);
        let summary = finished.map_err(|source| Error::Erofs { path: path.clone(), source })?;
        let verity = match hashing {
            None => None,
            Some(hashing) => {
                let tree = tree_over(&path, hashing, summary.blocks)?;
                write_tree(&path, &file, &tree, uuids.verity)?;
                Some(Verity::new(&tree, uuids.verity))
            }
        };
        // Size and extents are part of what fdatasync makes durable.
        file.sync_data().map_err(|source| Error::Io { operation: "synchronise", path, source })?;
        let image = u64::from(summary.blocks) * BLOCK_SIZE;
        Ok(Finished { bytes: verity.map_or(image, |verity| verity.geometry().file_size()), verity })
    }
}

/// The tree over an image of so many blocks, which were hashed.
pub(super) fn tree_over(path: &Path, hashing: Hashing, blocks: u32) -> Result<verity::Tree, Error> {
    let failed = |source| Error::Io { operation: "hash", path: path.to_owned(), source };
    let leaves = hashing.finish().map_err(failed)?;
    leaves.into_tree(blocks.into()).map_err(|source| Error::Tree { path: path.to_owned(), source })
}

/// Writes the tree of a finished image behind it, in a file that is not read by anybody yet.
fn write_tree(path: &Path, file: &Arc<File>, tree: &verity::Tree, uuid: [u8; 16]) -> Result<(), Error> {
    tree.write(uuid, &mut Output { file: Arc::clone(file), feed: None }).map_err(|source| Error::Io {
        operation: "write the dm-verity tree of",
        path: path.to_owned(),
        source,
    })
}

/// Writes the tree of a finished image behind it, and waits until it is on the disk.
pub(super) fn append_tree(path: &Path, tree: &verity::Tree, uuid: [u8; 16]) -> Result<(), Error> {
    let failed = |operation| move |source| Error::Io { operation, path: path.to_owned(), source };
    let file = Arc::new(OpenOptions::new().write(true).open(path).map_err(failed("open"))?);
    write_tree(path, &file, tree, uuid)?;
    file.sync_data().map_err(failed("synchronise"))
}

impl Uuids {
    /// Those of the layer with this diffID.
    pub(super) fn of_tar(diff_id: &Digest) -> Self {
        Self { image: erofs::uuid(diff_id), verity: verity::uuid(diff_id) }
    }

    /// Those of the written layer with this name.
    pub(super) fn of_written(unique: Unique) -> Self {
        let unique = unique.to_bytes();
        Self { image: erofs::written_uuid(unique), verity: verity::written_uuid(unique) }
    }
}

impl fmt::Debug for ImageFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A file that starts to reach the disk while it is written, so that the wait at the end is short, and
/// whose blocks are hashed meanwhile.
struct Output {
    file: Arc<File>,
    feed: Option<BlockFeed>,
}

impl Output {
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)?;
        // Advice: where the file system takes none, the final fdatasync does the work.
        let _ = writeback::start(&self.file, offset, bytes.len() as u64);
        Ok(())
    }
}

impl ImageSink for Output {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write(offset, bytes)?;
        self.feed.as_ref().map_or(Ok(()), |feed| feed.write(offset, bytes))
    }

    fn write_out(&mut self, offset: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
        self.write(offset, buffer)?;
        match &self.feed {
            Some(feed) => feed.take(offset, buffer),
            None => {
                buffer.clear();
                Ok(())
            }
        }
    }
}
