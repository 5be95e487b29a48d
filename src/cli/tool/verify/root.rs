//! The root hash of a file, and where it is from.

use std::num::NonZeroU64;
use std::path::Path;

use nexuserofs_guest::verity::{BlockSize, Fields, Parameters, RootDigest, Salt};
use serde::{Deserialize, Serialize};

use crate::cli::tool::error::Error;
use crate::cli::tool::subject::sidecar_of;
use crate::image::digest::Digest;
use crate::image::erofs::header::Header;
use crate::image::erofs::read::ReadAt;
use crate::image::tree::BLOCK_SIZE;
use crate::store::sidecar;

/// Where a root hash is from. Whoever can change a file can change the one beside it, so only a hash from
/// elsewhere proves that nobody did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Origin {
    /// Whoever asked named it.
    Argument,
    /// The file beside the image.
    Sidecar,
}

/// What a file has to be.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) parameters: Parameters,
    pub(super) root: Digest,
    pub(super) origin: Origin,
}

/// What containerd, Kata and we write beside an image. Other keys tell what is fixed for all of them.
#[derive(Deserialize)]
struct Sidecar {
    roothash: String,
    hashoffset: u64,
}

/// What the image at `path` has to be, if anybody says so. `given` is the root hash that was asked for.
pub(super) fn expected(
    path: &Path,
    file: &impl ReadAt,
    given: Option<Digest>,
) -> Result<Option<Expected>, Error> {
    let beside = sidecar_of(path);
    let told = match (given, sidecar::read::<Sidecar>(&beside)) {
        (Some(root), _) => {
            // The image says itself where it ends; if that is damaged, so is its first block.
            let header =
                Header::read(file).map_err(|error| Error::Image { path: path.to_owned(), source: error })?;
            Some((root, header.image_size(), Origin::Argument))
        }
        (None, Ok(Sidecar { roothash, hashoffset })) => {
            let root = format!("sha256:{roothash}").parse();
            Some((root.map_err(|_| Error::Sidecar { path: beside.clone() })?, hashoffset, Origin::Sidecar))
        }
        (None, Err(error)) if error.is_not_found() => None,
        (None, Err(error)) => return Err(error.into()),
    };
    let Some((root, image_bytes, origin)) = told else { return Ok(None) };
    let parameters = parameters(root, image_bytes).ok_or(Error::Sidecar { path: beside })?;
    Ok(Some(Expected { parameters, root, origin }))
}

/// The parameters of a tree behind an image of `image_bytes` bytes.
fn parameters(root: Digest, image_bytes: u64) -> Option<Parameters> {
    let data_blocks =
        NonZeroU64::new(image_bytes / BLOCK_SIZE).filter(|_| image_bytes.is_multiple_of(BLOCK_SIZE))?;
    let fields = Fields {
        root_digest: RootDigest::Sha256(*root.as_bytes()),
        salt: Salt::zeros(),
        data_block_size: BlockSize::PAGE,
        hash_block_size: BlockSize::PAGE,
        data_blocks,
        // Behind the superblock, which has a block of its own.
        hash_start_block: data_blocks.get() + 1,
    };
    Parameters::new(fields).ok()
}
