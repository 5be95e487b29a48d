//! Where the levels of a tree lie.

use std::num::NonZeroU64;

use nexuserofs_guest::verity::{BlockSize, Parameters, RootDigest, Salt};

use super::PER_BLOCK;
use crate::image::digest::Digest;
use crate::image::tree::BLOCK_SIZE;

/// The shape of the tree over some blocks of data, which follows from their number alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    data_blocks: NonZeroU64,
}

/// One level of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Its first byte, counted from the start of the file.
    pub offset: u64,
    /// Its size in blocks.
    pub blocks: u64,
}

impl Geometry {
    /// The shape of the tree over `data_blocks` blocks of 4096 bytes. None for an image whose file could
    /// not be addressed.
    #[must_use]
    pub fn new(data_blocks: NonZeroU64) -> Option<Self> {
        // The tree of an image takes less than half of what the image does.
        (data_blocks.get() <= u64::MAX / BLOCK_SIZE / 2).then_some(Self { data_blocks })
    }

    /// Shape and root hash of the tree that these parameters are of, if it has the form of this module.
    #[must_use]
    pub fn of(parameters: &Parameters) -> Option<(Self, Digest)> {
        let fields = parameters.fields();
        let RootDigest::Sha256(root) = fields.root_digest else { return None };
        let geometry = Self::new(fields.data_blocks)?;
        let is_ours = fields.data_block_size == BlockSize::PAGE
            && fields.hash_block_size == BlockSize::PAGE
            && fields.salt == Salt::zeros()
            && fields.hash_start_block == geometry.hash_start_block();
        is_ours.then_some((geometry, Digest::from_bytes(root)))
    }

    /// Number of blocks of data.
    #[must_use]
    pub const fn data_blocks(&self) -> NonZeroU64 {
        self.data_blocks
    }

    /// Size of the image in bytes, which is where the superblock starts.
    #[must_use]
    pub const fn hash_offset(&self) -> u64 {
        self.data_blocks.get() * BLOCK_SIZE
    }

    /// Block at which the tree starts, counted from the start of the file.
    #[must_use]
    pub const fn hash_start_block(&self) -> u64 {
        self.data_blocks.get() + 1
    }

    /// The levels from the one over the data to that of the root hash, the other way round than they lie. A
    /// single block of data has none: its digest is the root hash.
    #[must_use]
    pub fn levels(&self) -> Vec<Level> {
        let mut sizes = Vec::new();
        let mut blocks = self.data_blocks.get();
        while blocks > 1 {
            blocks = blocks.div_ceil(PER_BLOCK as u64);
            sizes.push(blocks);
        }
        let mut offset = self.hash_start_block() * BLOCK_SIZE;
        let mut levels: Vec<Level> = Vec::with_capacity(sizes.len());
        for blocks in sizes.into_iter().rev() {
            levels.push(Level { offset, blocks });
            offset += blocks * BLOCK_SIZE;
        }
        levels.reverse();
        levels
    }

    /// Size in bytes of the file with image, superblock and tree.
    #[must_use]
    pub fn file_size(&self) -> u64 {
        let tree: u64 = self.levels().iter().map(|level| level.blocks).sum();
        (self.hash_start_block() + tree) * BLOCK_SIZE
    }
}
