//! The dm-verity tree behind an image.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::cli::tool::subject::sidecar_of;
use crate::image::erofs::read::ReadAt;
use crate::image::tree::BLOCK_SIZE;
use crate::image::verity::Superblock;
use crate::store::sidecar;

/// What is said about a tree.
#[derive(Debug, Serialize)]
pub(super) struct Verity {
    /// The superblock behind the image; null if there is none.
    pub(super) superblock: Option<Tree>,
    /// The file beside the image, as it is; null if there is none.
    pub(super) sidecar: Option<Value>,
}

/// What a superblock says.
#[derive(Debug, Serialize)]
pub(super) struct Tree {
    /// Where the superblock is, in bytes.
    pub(super) hashoffset: u64,
    pub(super) uuid: Uuid,
    pub(super) hash_type: u32,
    pub(super) hash_algorithm: String,
    pub(super) data_block_size: u32,
    pub(super) hash_block_size: u32,
    pub(super) data_blocks: u64,
    /// Hex digits.
    pub(super) salt: String,
}

/// What is known about a tree behind the image of `image_bytes` bytes in `file`, which is called `path` and
/// has `bytes` bytes.
pub(super) fn read(path: &Path, file: &impl ReadAt, image_bytes: u64, bytes: u64) -> Option<Verity> {
    let sidecar = sidecar::read(&sidecar_of(path)).ok();
    let mut block = [0; BLOCK_SIZE as usize];
    let superblock = (bytes > image_bytes)
        .then(|| file.read_exact_at(image_bytes, &mut block).ok())
        .flatten()
        .and_then(|()| Superblock::parse(&block).ok())
        .map(|found| Tree::of(&found, image_bytes));
    (superblock.is_some() || sidecar.is_some()).then_some(Verity { superblock, sidecar })
}

impl Tree {
    fn of(found: &Superblock, hashoffset: u64) -> Self {
        Self {
            hashoffset,
            uuid: Uuid::from_bytes(found.uuid),
            hash_type: found.hash_type,
            hash_algorithm: found.algorithm.clone(),
            data_block_size: found.data_block_size,
            hash_block_size: found.hash_block_size,
            data_blocks: found.data_blocks,
            salt: found.salt.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}
