//! Builds the EROFS file of one layer from a directory that was written to.

use std::os::fd::OwnedFd;
use std::path::Path;

use super::image_file::{self, Finished, ImageFile, Uuids};
use super::{HashTree, LayerRecord, RootAttributes, upper};
use crate::error::{Classify, Kind};
use crate::image::tree::Tree;
use crate::store::unique::Unique;

/// Why a directory does not become a layer file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory cannot be read as a layer.
    #[error(transparent)]
    Upper(#[from] upper::Error),
    /// The file cannot be written.
    #[error(transparent)]
    File(#[from] image_file::Error),
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Upper(error) => error.kind(),
            Self::File(error) => error.kind(),
        }
    }
}

/// Writes what is in the directory `top`, with what `adjust` does to its tree, to the new layer file `path`,
/// waits until that is on the disk, and returns the layer's record. The file is a function of the directory,
/// `unique`, `hash_tree` and `adjust`.
///
/// # Errors
/// Where the directory cannot be read or expressed, or the file exists or cannot be written.
/// [`upper::Error::Stopped`] once `stop` returns true.
pub fn build(
    top: OwnedFd,
    path: &Path,
    unique: Unique,
    hash_tree: HashTree,
    adjust: &dyn Fn(&mut Tree),
    stop: &dyn Fn() -> bool,
) -> Result<LayerRecord, Error> {
    let mut file = ImageFile::create(path, hash_tree)?;
    let mut tree = upper::store(top, file.sink(), stop)?;
    adjust(&mut tree);
    let Finished { bytes, verity } = file.finish(&tree, Uuids::of_written(unique))?;
    let root = RootAttributes::of(&tree.inode(Tree::ROOT).metadata);
    Ok(LayerRecord::written(unique, bytes, root).with_verity(verity))
}
