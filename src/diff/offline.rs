//! A layer blob into a layer file, without containerd and without a store.

use std::io::{self, Read};
use std::path::Path;

use super::media::Declared;
use super::pass::{self, BadContent, Cancel, Failure};
use crate::image::digest::Digest;
use crate::layer::{HashTree, LayerRecord, build};

/// A layer that was made.
#[derive(Debug)]
pub struct Converted {
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Digest of the blob as it was read.
    pub blob: Digest,
    /// What is to be recorded about the layer.
    pub record: LayerRecord,
}

/// Why no layer was made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The blob cannot be read.
    #[error("cannot read it: {0}")]
    Read(#[source] io::Error),
    /// It cannot be decompressed.
    #[error(transparent)]
    Content(BadContent),
    /// It is no layer, or the file cannot be written.
    #[error(transparent)]
    Build(build::Error),
    /// A defect.
    #[error("internal fault: the {0} thread panicked; please report it with the lines above")]
    Panicked(&'static str),
}

/// Makes the layer file `path`, which must not exist, of a tar, plain or compressed with gzip or zstd,
/// with or without a dm-verity tree. The file's data is on disk when this returns.
///
/// # Errors
/// If the blob holds no layer, or a file operation fails. A part of the file may be there.
pub fn convert(blob: &mut (dyn Read + Send), path: &Path, hash_tree: HashTree) -> Result<Converted, Error> {
    let pass =
        pass::run(blob, Declared::Unclear, &Cancel::default(), |tar| build::read(tar, path, hash_tree));
    let unsealed = pass.result.map_err(|failure| match failure {
        Failure::Source(source) => Error::Read(source),
        Failure::Cancelled => Error::Read(io::ErrorKind::Interrupted.into()),
        Failure::Content(source) => Error::Content(source),
        Failure::Consume(error) => Error::Build(error),
        Failure::Panicked(thread) => Error::Panicked(thread),
    })?;
    let built = unsealed.seal(&pass.tar.digest).map_err(Error::Build)?;
    let (diff_id, blob) = (pass.tar.digest, pass.blob.digest);
    let record = LayerRecord::from_tar(diff_id, pass.tar.bytes, built.image_bytes, built.root, blob)
        .with_verity(built.verity);
    Ok(Converted { diff_id, blob, record })
}
