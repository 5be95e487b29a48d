//! The lowest level of a tree: digests of the blocks of data.

use std::io::{self, Read};
use std::num::NonZeroU64;

use super::{BlockDigest, BlockHash, DIGEST_SIZE, Geometry, Tree};
use crate::image::tree::BLOCK_SIZE;

const BLOCK: usize = BLOCK_SIZE as usize;

/// Blocks that are read at a time.
const READ_BLOCKS: usize = 64;

/// What a block has that was not hashed. No block has this digest.
const MISSING: BlockDigest = [0; DIGEST_SIZE];

/// Digests of an image's blocks, taken in whatever order the blocks are written. 32 bytes of memory for
/// each block.
#[derive(Clone, Debug)]
pub struct Leaves {
    hash: BlockHash,
    digests: Vec<BlockDigest>,
}

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data cannot be read.
    #[error("cannot read the data at byte {offset}")]
    Read {
        /// Where, in bytes from the start.
        offset: u64,
        /// The system's reason.
        source: io::Error,
    },
    /// Not whole blocks.
    #[error("{length} bytes at byte {offset} are not whole blocks of 4096 bytes")]
    Unaligned {
        /// Where they start.
        offset: u64,
        /// How many they are.
        length: u64,
    },
    /// A block of the image was never seen.
    #[error("block {block} of the image was never written")]
    Missing {
        /// The first such block.
        block: u64,
    },
    /// There is nothing to hash.
    #[error("an image without data has no tree")]
    Empty,
    /// The parameters are of another kind of tree.
    #[error(
        "only trees of sha256 with blocks of 4096 bytes, a salt of 32 zero bytes and a superblock are known"
    )]
    Form,
    /// More blocks than a file can have.
    #[error("the image is too large for a file")]
    TooLarge,
}

impl Default for Leaves {
    fn default() -> Self {
        Self { hash: BlockHash::new(), digests: Vec::new() }
    }
}

impl Leaves {
    /// Digests that are known already, in the order of the blocks: those of another tree, for instance.
    #[must_use]
    pub fn from_digests(digests: Vec<[u8; DIGEST_SIZE]>) -> Self {
        Self { digests, ..Self::default() }
    }

    /// Hashes blocks that lie at `offset` in the image, in place of what was there before.
    ///
    /// # Errors
    /// [`Error::Unaligned`] unless both are multiples of 4096.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        let first = usize::try_from(offset / BLOCK_SIZE).map_err(|_| Error::TooLarge)?;
        let end = first.checked_add(blocks.len()).ok_or(Error::TooLarge)?;
        if !rest.is_empty() || !offset.is_multiple_of(BLOCK_SIZE) {
            return Err(Error::Unaligned { offset, length: bytes.len() as u64 });
        }
        if self.digests.len() < end {
            self.digests.resize(end, MISSING);
        }
        let places = self.digests.get_mut(first..end).unwrap_or_default();
        BlockHash::digest_all(blocks, places);
        Ok(())
    }

    /// Hashes all that a finished image gives, from its first block to its end.
    ///
    /// # Errors
    /// [`Error::Read`]; [`Error::Unaligned`] if it does not end with a whole block.
    pub fn of(image: &mut impl Read) -> Result<Self, Error> {
        let mut leaves = Self::default();
        let mut buffer = vec![0; READ_BLOCKS * BLOCK];
        loop {
            let offset = leaves.digests.len() as u64 * BLOCK_SIZE;
            let filled = fill(image, &mut buffer).map_err(|source| Error::Read { offset, source })?;
            leaves.write(offset, buffer.get(..filled).unwrap_or_default())?;
            if filled < buffer.len() {
                return Ok(leaves);
            }
        }
    }

    /// The digests, by block.
    #[must_use]
    pub fn digests(&self) -> &[[u8; DIGEST_SIZE]] {
        &self.digests
    }

    /// The tree over an image of `data_blocks` blocks.
    ///
    /// # Errors
    /// [`Error::Missing`] if a block of it was not written, [`Error::Empty`] if it has none.
    pub fn into_tree(self, data_blocks: u64) -> Result<Tree, Error> {
        let Self { hash, digests } = self;
        let number = NonZeroU64::new(data_blocks).ok_or(Error::Empty)?;
        let geometry = Geometry::new(number).ok_or(Error::TooLarge)?;
        let missing = digests.iter().position(|digest| *digest == MISSING);
        match missing.map_or(digests.len() as u64, |block| block as u64) {
            block if block != data_blocks => Err(Error::Missing { block }),
            _ => Ok(Tree::over(geometry, digests, &hash)),
        }
    }
}

/// Reads until `buffer` is full or there is no more, and returns how much there was.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match source.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
