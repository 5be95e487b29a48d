//! A layer's file while it is written: data first, then metadata and superblock, then the wait for
//! the disk.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Classify, Kind, io_kind};
use crate::image::erofs::{self, ImageSink, Writer};
use crate::image::tree::{BLOCK_SIZE, BlockSink, Tree};
use crate::sys::writeback;

/// Mode of a layer file: a virtual machine monitor that runs as another user may read it.
pub(super) const FILE_MODE: u32 = 0o644;

/// A layer's file that data is written to.
pub(super) struct ImageFile {
    path: PathBuf,
    file: Arc<File>,
    writer: Writer<Output>,
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
            Self::Erofs { source: erofs::Error::Write(source), .. } | Self::Io { source, .. } => {
                io_kind(source)
            }
            Self::Erofs { .. } => Kind::InvalidArgument,
        }
    }
}

impl ImageFile {
    /// Creates the file `path`, which must not exist.
    pub(super) fn create(path: &Path) -> Result<Self, Error> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(path);
        let file = file.map_err(|source| Error::Io { operation: "create", path: path.to_owned(), source })?;
        let file = Arc::new(file);
        let writer = Writer::new(Output(Arc::clone(&file)));
        Ok(Self { path: path.to_owned(), file, writer })
    }

    /// Where data goes.
    pub(super) fn sink(&mut self) -> &mut impl BlockSink {
        &mut self.writer
    }

    /// Writes metadata and superblock, waits until the file is on the disk, and returns its size in bytes.
    pub(super) fn finish(self, tree: &Tree, uuid: [u8; 16]) -> Result<u64, Error> {
        let Self { path, file, writer } = self;
        let finished = writer.finish(tree, uuid);
        let summary = finished.map_err(|source| Error::Erofs { path: path.clone(), source })?;
        // Size and extents are part of what fdatasync makes durable.
        file.sync_data().map_err(|source| Error::Io { operation: "synchronise", path, source })?;
        Ok(u64::from(summary.blocks) * BLOCK_SIZE)
    }
}

impl fmt::Debug for ImageFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A file that starts to reach the disk while it is written, so that the wait at the end is short.
struct Output(Arc<File>);

impl ImageSink for Output {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)?;
        // Advice: where the file system takes none, the final fdatasync does the work.
        let _ = writeback::start(&self.0, offset, bytes.len() as u64);
        Ok(())
    }
}
