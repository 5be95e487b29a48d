//! Opens the file of a layer to read it back.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::{Classify, Kind, io_kind};
use crate::image::erofs::read::{self, Image, Limits, ReadAt};

/// A layer's file: its tree, and the contents of what is in it.
pub type LayerImage = Image<LayerFile>;

/// An open layer file. It stays readable when the layer is removed.
#[derive(Debug)]
pub struct LayerFile(File);

/// Why a layer's file cannot be read back.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened.
    #[error("cannot open {path}")]
    Open {
        /// The layer file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Its content is not what the daemon writes.
    #[error("cannot read {path}")]
    Image {
        /// The layer file.
        path: PathBuf,
        /// What is wrong with it.
        source: read::Error,
    },
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Open { source, .. } | Self::Image { source: read::Error::Read { source, .. }, .. } => {
                io_kind(source)
            }
            Self::Image { .. } => Kind::DataLoss,
        }
    }
}

impl LayerFile {
    /// Reads from `file`, from its start on.
    #[must_use]
    pub const fn new(file: File) -> Self {
        Self(file)
    }
}

impl ReadAt for LayerFile {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }
}

/// Opens the layer file `path` and reads its metadata.
///
/// # Errors
/// If there is no such file, or it is not a whole uncompressed EROFS image.
pub fn open(path: &Path) -> Result<LayerImage, Error> {
    open_within(path, &Limits::default())
}

/// Opens the layer file `path` and reads its metadata, if that is within `limits`.
///
/// # Errors
/// As [`open`].
pub fn open_within(path: &Path, limits: &Limits) -> Result<LayerImage, Error> {
    let file = File::open(path).map_err(|source| Error::Open { path: path.to_owned(), source })?;
    let image = Image::open(LayerFile(file), limits);
    image.map_err(|source| Error::Image { path: path.to_owned(), source })
}

/// Opens an image that the kernel is to mount, whoever made it, and reads its metadata. Its extents are for
/// [`Contents`](crate::image::tree::Contents) only, and the data of compressed files is not given.
///
/// # Errors
/// If there is no such file, or it is not a sound EROFS image.
pub fn open_foreign(path: &Path) -> Result<LayerImage, Error> {
    open_foreign_within(path, &Limits::default())
}

/// As [`open_foreign`], if the metadata is within `limits`.
///
/// # Errors
/// As [`open_foreign`].
pub fn open_foreign_within(path: &Path, limits: &Limits) -> Result<LayerImage, Error> {
    let failed = |source| Error::Open { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let file_bytes = file.metadata().map_err(failed)?.len();
    let image = Image::open_foreign(LayerFile(file), file_bytes, limits);
    image.map_err(|source| Error::Image { path: path.to_owned(), source })
}
