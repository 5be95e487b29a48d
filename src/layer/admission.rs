//! What an image that another program made goes through before it is the file of a layer.
//!
//! All its metadata is read, and what it may not have is refused ([`crate::image::erofs::read`],
//! [`crate::image::overlay::marks`]). Zeros fill up the last 4096 bytes where they are not whole, as guests map
//! whole pages of files only. A dm-verity tree follows if there is to be one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::image_file::{self, Finished, append_tree};
use super::open::{self, LayerImage};
use crate::error::{Classify, Kind, io_kind};
use crate::image::overlay::marks::{self, ForbiddenMark};
use crate::image::tree::BLOCK_SIZE;
use crate::image::verity::Leaves;
use crate::layer::{HashTree, Verity};

/// Why an image does not become the file of a layer.
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
    /// The tree cannot be written.
    #[error(transparent)]
    Tree(#[from] image_file::Error),
}

impl Error {
    /// Adapter for `map_err`: the failure of `operation` on `path`.
    pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { operation, path: path.to_owned(), source }
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Io { source, .. } => io_kind(source),
            // The bytes are those that were published, so what is wrong with them is the publisher's.
            Self::Image(error) if error.kind() == Kind::DataLoss => Kind::InvalidArgument,
            Self::Image(error) => error.kind(),
            Self::Mark(_) => Kind::InvalidArgument,
            Self::Tree(error) => error.kind(),
        }
    }
}

/// Fills up, checks and completes the image in `file`, which is at `path`, and waits until it is on the disk.
///
/// # Errors
/// [`Error`] says what is wrong with the image, or what failed.
pub(super) fn finish(
    path: &Path,
    file: File,
    tree: HashTree,
    verity_uuid: [u8; 16],
) -> Result<(LayerImage, Finished), Error> {
    let image_bytes = fill(&file).map_err(Error::io("write", path))?;
    let image = open::open_foreign(path)?;
    marks::check(image.tree())?;
    // A device of the tree's 4096-byte blocks cannot hold smaller ones.
    let has_tree = tree == HashTree::With && image.superblock().block_size() == BLOCK_SIZE;
    let verity = has_tree.then(|| add_tree(path, &file, image_bytes, verity_uuid)).transpose()?;
    file.sync_data().map_err(Error::io("synchronise", path))?;
    let bytes = verity.map_or(image_bytes, |verity| verity.geometry().file_size());
    Ok((image, Finished { bytes, verity }))
}

/// Fills the last 4096 bytes up with zeros and returns the size of the file in bytes.
fn fill(file: &File) -> io::Result<u64> {
    let bytes = file.metadata()?.len();
    let whole = bytes.next_multiple_of(BLOCK_SIZE);
    file.set_len(whole)?;
    Ok(whole)
}

fn add_tree(path: &Path, file: &File, image_bytes: u64, uuid: [u8; 16]) -> Result<Verity, Error> {
    let failed = |source| image_file::Error::Tree { path: path.to_owned(), source };
    let leaves = Leaves::of(&mut Whole { file, offset: 0 }).map_err(failed)?;
    let tree = leaves.into_tree(image_bytes / BLOCK_SIZE).map_err(failed)?;
    append_tree(path, &tree, uuid)?;
    Ok(Verity::new(&tree, uuid))
}

/// A file from its start, wherever others have read or written it.
struct Whole<'f> {
    file: &'f File,
    offset: u64,
}

impl io::Read for Whole<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}
