//! Builds the EROFS file of one layer while its tar streams by.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Classify, Kind, io_kind};
use crate::image::digest::Digest;
use crate::image::erofs::{self, ImageSink, Writer};
use crate::image::tar::{self, Limits};
use crate::image::tree::{BLOCK_SIZE, Metadata};
use crate::layer::RootAttributes;
use crate::sys::writeback;

/// Mode of a layer file: a virtual machine monitor that runs as another user may read it.
const FILE_MODE: u32 = 0o644;

/// A layer whose tar has been read and whose data is on its way to the disk. Its metadata and
/// superblock follow when the diffID is known, which the UUID is made from.
#[derive(Debug)]
pub struct Unsealed {
    path: PathBuf,
    file: Arc<File>,
    writer: Writer<LayerFile>,
    layer: tar::Layer,
}

/// A finished, durable layer file.
#[derive(Debug)]
pub struct Built {
    /// Size of the file in bytes, a multiple of 4096.
    pub image_bytes: u64,
    /// Attributes of `/`, where the tar names it.
    pub root: Option<RootAttributes>,
    /// Entries of the tar.
    pub entries: u64,
}

/// Why a layer file cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tar is damaged or asks for what a layer must not have.
    #[error("cannot make a layer of the tar")]
    Tar(#[source] tar::Error),
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
            Self::Tar(tar::Error::Read { source, .. } | tar::Error::Store { source, .. })
            | Self::Erofs { source: erofs::Error::Write(source), .. } => io_kind(source),
            Self::Tar(_) | Self::Erofs { .. } => Kind::InvalidArgument,
            Self::Io { source, .. } => io_kind(source),
        }
    }
}

/// Reads `tar` up to its end into the new layer file `path`.
///
/// # Errors
/// Where the tar is refused, or the file exists or cannot be written.
pub fn read(tar: &mut impl BufRead, path: &Path) -> Result<Unsealed, Error> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(path);
    let file = file.map_err(|source| Error::Io { operation: "create", path: path.to_owned(), source })?;
    let file = Arc::new(file);
    let mut writer = Writer::new(LayerFile(Arc::clone(&file)));
    let layer = tar::read_layer(tar, &mut writer, &Limits::default()).map_err(Error::Tar)?;
    Ok(Unsealed { path: path.to_owned(), file, writer, layer })
}

impl Unsealed {
    /// Writes metadata and superblock, and waits until the file is on the disk.
    ///
    /// # Errors
    /// Where the tree cannot be expressed or the file cannot be written.
    pub fn seal(self, diff_id: &Digest) -> Result<Built, Error> {
        let Self { path, file, writer, layer } = self;
        let at = |operation| {
            let path = path.clone();
            move |source| Error::Io { operation, path, source }
        };
        let finished = writer.finish(&layer.tree, erofs::uuid(diff_id));
        let summary = finished.map_err(|source| Error::Erofs { path: path.clone(), source })?;
        // Size and extents are part of what fdatasync makes durable.
        file.sync_data().map_err(at("synchronise"))?;
        Ok(Built {
            image_bytes: u64::from(summary.blocks) * BLOCK_SIZE,
            root: layer.root.map(attributes),
            entries: layer.entries,
        })
    }
}

/// What a layer says about `/`. Overlay's own attributes stay behind: on the writable layer, which
/// gets the rest, an opaque mark would hide the whole image.
fn attributes(root: Metadata) -> RootAttributes {
    let Metadata { mode, uid, gid, mut xattrs, .. } = root;
    xattrs.retain(|name, _| !name.starts_with(b"trusted.overlay."));
    RootAttributes { mode, uid, gid, xattrs }
}

/// A layer file that starts to reach the disk while it is written, so that the wait at the end is
/// short.
#[derive(Debug)]
struct LayerFile(Arc<File>);

impl ImageSink for LayerFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)?;
        // Advice: where the file system takes none, the final fdatasync does the work.
        let _ = writeback::start(&self.0, offset, bytes.len() as u64);
        Ok(())
    }
}
