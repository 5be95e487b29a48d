//! Builds the EROFS file of one layer while its tar streams by.

use std::io::BufRead;
use std::path::Path;

use super::image_file::{self, Finished, ImageFile, Uuids};
use crate::error::{Classify, Kind, io_kind};
use crate::image::digest::Digest;
use crate::image::tar::{self, Limits};
use crate::layer::{HashTree, RootAttributes, Verity};

/// A layer whose tar has been read and whose data is on its way to the disk. Its metadata and
/// superblock follow when the diffID is known, which the UUID is made from.
#[derive(Debug)]
pub struct Unsealed {
    file: ImageFile,
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
    /// The dm-verity tree, which is a part of the file; None without one.
    pub verity: Option<Verity>,
}

/// Why a layer file cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tar is damaged or asks for what a layer must not have.
    #[error("cannot make a layer of the tar")]
    Tar(#[source] tar::Error),
    /// The file cannot be written.
    #[error(transparent)]
    File(#[from] image_file::Error),
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Tar(tar::Error::Read { source, .. } | tar::Error::Store { source, .. }) => io_kind(source),
            Self::Tar(_) => Kind::InvalidArgument,
            Self::File(error) => error.kind(),
        }
    }
}

/// Reads `tar` up to its end into the new layer file `path`, with or without a dm-verity tree.
///
/// # Errors
/// Where the tar is refused, or the file exists or cannot be written.
pub fn read(tar: &mut impl BufRead, path: &Path, tree: HashTree) -> Result<Unsealed, Error> {
    let mut file = ImageFile::create(path, tree)?;
    let layer = tar::read_layer(tar, file.sink(), &Limits::default()).map_err(Error::Tar)?;
    Ok(Unsealed { file, layer })
}

impl Unsealed {
    /// Writes metadata, superblock and tree, and waits until the file is on the disk.
    ///
    /// # Errors
    /// Where the tree cannot be expressed or the file cannot be written.
    pub fn seal(self, diff_id: &Digest) -> Result<Built, Error> {
        let Self { file, layer } = self;
        let Finished { bytes, verity } = file.finish(&layer.tree, Uuids::of_tar(diff_id))?;
        let root = layer.root.as_ref().map(RootAttributes::of);
        Ok(Built { image_bytes: bytes, root, entries: layer.entries, verity })
    }
}
