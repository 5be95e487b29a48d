//! Takes an EROFS image that someone else made as the file of a layer: a native EROFS layer.
//!
//! The kernel is to mount it, and other programs are to read it, so nothing of it is believed: see
//! [`admission`](super::admission). Its bytes stay as they are, so that they are what the diffID says.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::admission::{self, Error};
use super::build::Built;
use super::image_file::FILE_MODE;
use crate::image::digest::Digest;
use crate::image::tree::Tree;
use crate::image::verity;
use crate::layer::{HashTree, RootAttributes};

/// An image that was written to its file and not looked at yet.
#[derive(Debug)]
pub struct Stored {
    path: PathBuf,
    file: File,
}

/// Writes what `image` gives into the new file `path`.
///
/// # Errors
/// [`Error::Io`] if the stream breaks off, or the file exists or cannot be written.
pub fn store(image: &mut impl BufRead, path: &Path) -> Result<Stored, Error> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(path);
    let mut file = file.map_err(Error::io("create", path))?;
    io::copy(image, &mut file).map_err(Error::io("write", path))?;
    Ok(Stored { path: path.to_owned(), file })
}

impl Stored {
    /// Looks at the whole image, adds a dm-verity tree if there is to be one, and waits until the file is on
    /// the disk. `diff_id` is the digest of the image as it came.
    ///
    /// # Errors
    /// [`Error::Image`] or [`Error::Mark`] says what is wrong with the image; the others, what of the file could
    /// not be written.
    pub fn seal(self, tree: HashTree, diff_id: &Digest) -> Result<Built, Error> {
        let (image, finished) = admission::finish(&self.path, self.file, tree, verity::uuid(diff_id))?;
        let root = RootAttributes::of(&image.tree().inode(Tree::ROOT).metadata);
        let entries = image.tree().inodes.len() as u64;
        Ok(Built { image_bytes: finished.bytes, root: Some(root), entries, verity: finished.verity })
    }
}
