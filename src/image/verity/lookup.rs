//! The digest that one block has to have, without reading the whole tree.

use std::collections::HashMap;

use nexuserofs_guest::verity::Parameters;

use super::geometry::Level;
use super::{BlockDigest, BlockHash, Geometry, PER_BLOCK, leaves};
use crate::image::digest::Digest;
use crate::image::erofs::read::ReadAt;
use crate::image::tree::BLOCK_SIZE;

/// Most blocks of a tree that are kept: 256 KiB, which is what 32 MiB of data need, or one path and some of what
/// readers at random need.
const KEPT_BLOCKS: usize = 64;

/// Finds digests in the tree of a file. What it returns follows from the root hash: blocks of the tree are checked
/// when they are read, and kept in memory after that, or read and checked again.
#[derive(Debug)]
pub struct Lookup {
    geometry: Geometry,
    root: BlockDigest,
    /// From the one over the data up.
    levels: Vec<Level>,
    hash: BlockHash,
    known: HashMap<Place, Box<[BlockDigest; PER_BLOCK]>>,
}

/// A block of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Place {
    level: usize,
    block: u64,
}

/// Why a digest cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] leaves::Error),
    /// A block of the tree is not what the root hash says.
    #[error("the block of the hash tree at byte {offset} is damaged")]
    Damaged {
        /// Its first byte, counted from the start of the file.
        offset: u64,
    },
    /// The image has no such block.
    #[error("the hash tree covers no block {block}")]
    NoSuchBlock {
        /// Its number.
        block: u64,
    },
}

impl Lookup {
    /// For the tree that these parameters are of. None if it does not have the form of this module.
    #[must_use]
    pub fn new(parameters: &Parameters) -> Option<Self> {
        let (geometry, root) = Geometry::of(parameters)?;
        let levels = geometry.levels();
        let root = *root.as_bytes();
        Some(Self { geometry, root, levels, hash: BlockHash::new(), known: HashMap::new() })
    }

    /// What the tree covers.
    #[must_use]
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The digest that block `block` of the image in `file` has to have.
    ///
    /// # Errors
    /// If there is no such block, or what is needed of the tree cannot be read or is damaged.
    pub fn digest_of(&mut self, file: &(impl ReadAt + ?Sized), block: u64) -> Result<Digest, LookupError> {
        if block >= self.geometry.data_blocks().get() {
            return Err(LookupError::NoSuchBlock { block });
        }
        self.digest_below(file, 0, block).map(Digest::from_bytes)
    }

    /// The digest of a block of what lies below `level`: of the level below, or of the image.
    fn digest_below(
        &mut self,
        file: &(impl ReadAt + ?Sized),
        level: usize,
        child: u64,
    ) -> Result<BlockDigest, LookupError> {
        let Some(Level { offset, .. }) = self.levels.get(level).copied() else { return Ok(self.root) };
        let (place, slot) = (Place { level, block: child / PER_BLOCK as u64 }, child as usize % PER_BLOCK);
        if let Some(digests) = self.known.get(&place) {
            return Ok(digests[slot]);
        }
        let expected = self.digest_below(file, level + 1, place.block)?;
        let offset = offset + place.block * BLOCK_SIZE;
        let mut digests = Box::new([BlockDigest::default(); PER_BLOCK]);
        let read = file.read_exact_at(offset, digests.as_flattened_mut());
        read.map_err(|source| leaves::Error::Read { offset, source })?;
        if self.hash.digest(digests.as_flattened()) != expected {
            return Err(LookupError::Damaged { offset });
        }
        if self.known.len() >= KEPT_BLOCKS {
            self.known.clear();
        }
        let digest = digests[slot];
        self.known.insert(place, digests);
        Ok(digest)
    }
}

/// The digest of one block of data.
#[must_use]
pub fn block_digest(block: &[u8]) -> Digest {
    Digest::from_bytes(BlockHash::new().digest(block))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use nexuserofs_guest::verity::{BlockSize, Fields, RootDigest, Salt};

    use super::*;
    use crate::image::erofs::ImageSink;
    use crate::image::verity::Leaves;

    struct Bytes(Vec<u8>);

    impl ImageSink for Bytes {
        fn write_at(&mut self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
            let end = offset as usize + bytes.len();
            self.0.resize(self.0.len().max(end), 0);
            self.0[offset as usize..end].copy_from_slice(bytes);
            Ok(())
        }
    }

    /// A file of that many blocks with its tree.
    fn file(blocks: u64) -> (Vec<u8>, Parameters) {
        let mut leaves = Leaves::default();
        let data: Vec<u8> =
            (0..blocks * BLOCK_SIZE).map(|at| (at / BLOCK_SIZE * 7 + at % 251) as u8).collect();
        leaves.write(0, &data).unwrap();
        let tree = leaves.into_tree(blocks).unwrap();
        let geometry = tree.geometry();
        let mut file = Bytes(data);
        tree.write([7; 16], &mut file).unwrap();
        let fields = Fields {
            root_digest: RootDigest::Sha256(*tree.root().as_bytes()),
            salt: Salt::zeros(),
            data_block_size: BlockSize::PAGE,
            hash_block_size: BlockSize::PAGE,
            data_blocks: NonZeroU64::new(blocks).unwrap(),
            hash_start_block: geometry.hash_start_block(),
        };
        (file.0, Parameters::new(fields).unwrap())
    }

    fn block(file: &[u8], number: u64) -> &[u8] {
        &file[(number * BLOCK_SIZE) as usize..][..BLOCK_SIZE as usize]
    }

    #[test]
    fn every_block_has_the_digest_that_is_told_whatever_the_height_of_the_tree() {
        for blocks in [1, 2, 128, 129, 16_385] {
            let (file, parameters) = file(blocks);
            let mut lookup = Lookup::new(&parameters).unwrap();
            for number in (0..blocks).step_by(61).chain([blocks - 1, 0]) {
                assert_eq!(
                    lookup.digest_of(&file, number).unwrap(),
                    block_digest(block(&file, number)),
                    "{number}"
                );
            }
            assert!(lookup.known.len() <= KEPT_BLOCKS);
            assert!(matches!(lookup.digest_of(&file, blocks), Err(LookupError::NoSuchBlock { .. })));
        }
    }

    #[test]
    fn a_damaged_tree_is_not_believed() {
        let (mut file, parameters) = file(16_385);
        let levels = Lookup::new(&parameters).unwrap().levels;
        // The leaves of blocks 128 to 255.
        let offset = levels[0].offset + BLOCK_SIZE;
        file[offset as usize + 40] ^= 1;
        let mut lookup = Lookup::new(&parameters).unwrap();
        for number in [127, 256, 16_384] {
            lookup.digest_of(&file, number).unwrap();
        }
        for number in [128, 129, 255] {
            let found = lookup.digest_of(&file, number);
            assert!(matches!(found, Err(LookupError::Damaged { offset: at }) if at == offset), "{number}");
        }
        // Of the block at the top all others follow.
        file[levels[2].offset as usize] ^= 1;
        let mut lookup = Lookup::new(&parameters).unwrap();
        assert!(matches!(lookup.digest_of(&file, 0), Err(LookupError::Damaged { .. })));
    }
}
