//! Takes an EROFS image that someone else made as the file of a layer: a native EROFS layer.
//!
//! The kernel is to mount it, and other programs are to read it, so nothing of it is believed: all its
//! metadata is read first, and what it may not have is refused ([`crate::image::erofs::read`],
//! [`crate::image::overlay::marks`]). Its bytes stay as they are, so that they are what the diffID says;
//! zeros fill up the last 4096 bytes where they are not whole, as guests map files of whole pages only.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::build::Built;
use super::image_file::FILE_MODE;
use super::open::{self, LayerImage};
use crate::error::{Classify, Kind, io_kind};
use crate::image::overlay::marks::{self, ForbiddenMark};
use crate::image::tree::{BLOCK_SIZE, Tree};
use crate::layer::RootAttributes;

/// An image that was written to its file and not looked at yet.
#[derive(Debug)]
pub struct Stored {
    path: PathBuf,
    file: File,
    bytes: u64,
}

/// Why an image is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream or the file failed.
    #[error("cannot {operation} {path}", path = path.display())]
    Io {
        /// What failed.
        operation: &'static str,
        /// The layer file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It is damaged, or uses what is not taken from others.
    #[error(transparent)]
    Image(#[from] open::Error),
    /// It would have overlayfs do what no layer may ask for.
    #[error(transparent)]
    Mark(#[from] ForbiddenMark),
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Io { source, .. } => io_kind(source),
            // As the bytes are those that were published, what is wrong with them is the publisher's.
            Self::Image(error) if error.kind() == Kind::DataLoss => Kind::InvalidArgument,
            Self::Image(error) => error.kind(),
            Self::Mark(_) => Kind::InvalidArgument,
        }
    }
}

/// Writes what `image` gives into the new file `path`.
///
/// # Errors
/// [`Error::Io`] if the stream breaks off, or the file exists or cannot be written.
pub fn store(image: &mut impl BufRead, path: &Path) -> Result<Stored, Error> {
    let failed = |operation| move |source| Error::Io { operation, path: path.to_owned(), source };
    let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path);
    let mut file = file.map_err(failed("create"))?;
    let bytes = io::copy(image, &mut file).map_err(failed("write"))?;
    Ok(Stored { path: path.to_owned(), file, bytes })
}

impl Stored {
    /// Looks at the whole image, fills the file up to whole blocks and waits until it is on the disk.
    ///
    /// # Errors
    /// [`Error::Image`] or [`Error::Mark`] says what is wrong with the image; [`Error::Io`] if the file cannot
    /// be written.
    pub fn seal(mut self) -> Result<Built, Error> {
        let image_bytes = self.bytes.next_multiple_of(BLOCK_SIZE);
        self.fill(image_bytes).map_err(|source| self.failed("write", source))?;
        let image = admit(&self.path)?;
        self.file.sync_data().map_err(|source| self.failed("synchronise", source))?;
        let root = RootAttributes::of(&image.tree().inode(Tree::ROOT).metadata);
        Ok(Built { image_bytes, root: Some(root), entries: image.tree().inodes.len() as u64, verity: None })
    }

    fn fill(&mut self, length: u64) -> io::Result<()> {
        let zeros = [0; BLOCK_SIZE as usize];
        let missing = usize::try_from(length - self.bytes).unwrap_or_default();
        self.file.write_all(zeros.get(..missing).unwrap_or_default())
    }

    fn failed(&self, operation: &'static str, source: io::Error) -> Error {
        Error::Io { operation, path: self.path.clone(), source }
    }
}

/// Reads all metadata of the image in the file `path`, and refuses what no layer may have.
///
/// # Errors
/// [`Error::Image`] or [`Error::Mark`].
pub fn admit(path: &Path) -> Result<LayerImage, Error> {
    let image = open::open_foreign(path)?;
    marks::check(image.tree())?;
    Ok(image)
}
