//! The levels of a tree above the digests of the data, and how they are written.

use std::io;

use super::{BlockDigest, BlockHash, DIGEST_SIZE, Geometry, PER_BLOCK, Superblock};
use crate::image::digest::Digest;
use crate::image::erofs::ImageSink;
use crate::image::tree::BLOCK_SIZE;

/// Bytes that are written at a time.
const WRITE_SIZE: usize = 2 << 20;

/// A whole tree in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    geometry: Geometry,
    /// From the digests of the data up, each filled up with zeros to whole blocks.
    levels: Vec<Vec<BlockDigest>>,
    root: Digest,
}

impl Tree {
    /// The tree over these digests, one for each block.
    pub(super) fn over(geometry: Geometry, leaves: Vec<BlockDigest>, hash: &BlockHash) -> Self {
        let mut levels = Vec::new();
        let mut digests = leaves;
        while digests.len() > 1 {
            let (level, above) = level(digests, hash);
            levels.push(level);
            digests = above;
        }
        let root = Digest::from_bytes(digests.first().copied().unwrap_or_default());
        Self { geometry, levels, root }
    }

    /// The root hash.
    #[must_use]
    pub const fn root(&self) -> Digest {
        self.root
    }

    /// What it is a tree over, and where it lies.
    #[must_use]
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The levels from the one over the data up, in whole blocks.
    pub(super) fn levels(&self) -> impl Iterator<Item = &[[u8; DIGEST_SIZE]]> {
        self.levels.iter().map(Vec::as_slice)
    }

    /// Writes superblock and tree behind the image, at [`Geometry::hash_offset`]. What follows is the end
    /// of the file, at [`Geometry::file_size`].
    ///
    /// # Errors
    /// What the sink failed with.
    pub fn write(&self, uuid: [u8; 16], sink: &mut impl ImageSink) -> io::Result<()> {
        sink.write_at(self.geometry.hash_offset(), &Superblock::new(uuid, self.geometry).encode())?;
        let mut offset = self.geometry.hash_start_block() * BLOCK_SIZE;
        for level in self.levels.iter().rev() {
            for piece in level.as_flattened().chunks(WRITE_SIZE) {
                sink.write_at(offset, piece)?;
                offset += piece.len() as u64;
            }
        }
        Ok(())
    }
}

/// These digests as whole blocks, and the digests of the blocks.
fn level(mut digests: Vec<BlockDigest>, hash: &BlockHash) -> (Vec<BlockDigest>, Vec<BlockDigest>) {
    digests.resize(digests.len().next_multiple_of(PER_BLOCK), [0; DIGEST_SIZE]);
    let above = digests.chunks(PER_BLOCK).map(|block| hash.digest(block.as_flattened())).collect();
    (digests, above)
}
