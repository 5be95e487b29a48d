//! Whether a file is the one that a root hash was made of, and which of its blocks are not.

use std::io;

use nexuserofs_guest::verity::Parameters;

use super::{BlockDigest, BlockHash, Geometry, Leaves, PER_BLOCK, Superblock, leaves};
use crate::image::erofs::read::ReadAt;
use crate::image::tree::BLOCK_SIZE;

const BLOCK: usize = BLOCK_SIZE as usize;

/// Bytes that are read at a time.
const READ_SIZE: usize = 1 << 20;

/// Something that is not what the root hash says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// A block of the image.
    Data {
        /// Its first byte, counted from the start of the file.
        offset: u64,
    },
    /// A block of the tree. What it covers is as it should be, unless that is reported as well.
    Tree {
        /// Its first byte, counted from the start of the file.
        offset: u64,
    },
    /// A part of the image that differs, without it being known which blocks of it: the block of the tree
    /// that would tell is damaged too.
    Somewhere {
        /// Its first byte, counted from the start of the file.
        offset: u64,
        /// Its size in bytes.
        length: u64,
    },
    /// The superblock of the tree. The kernel is given the parameters and does not read it.
    Superblock {
        /// Its first byte, counted from the start of the file.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
}

/// Reads the whole `file` and gives `report` everything that is not as the parameters say, the image's
/// parts in ascending order, then the superblock. Nothing is reported of a file that is whole.
///
/// # Errors
/// [`leaves::Error::Form`] for parameters of a tree that is not in the form of this module;
/// [`leaves::Error::Read`] if the file cannot be read, or ends before its tree does.
pub fn verify(
    file: &(impl ReadAt + ?Sized),
    parameters: &Parameters,
    report: &mut dyn FnMut(Damage),
) -> Result<(), leaves::Error> {
    let (geometry, root) = Geometry::of(parameters).ok_or(leaves::Error::Form)?;
    let hash = BlockHash::new();
    let computed = hashed(file, geometry)?.into_tree(geometry.data_blocks().get())?;
    let stored = stored_levels(file, geometry)?;
    let check = Check { geometry, hash, computed: computed.levels().collect(), stored: &stored };
    match check.computed.len().checked_sub(1) {
        Some(top) => check.level(top, 0, root.as_bytes(), report),
        None if computed.root() != root => report(Damage::Data { offset: 0 }),
        None => {}
    }
    check_superblock(file, geometry, report)
}

/// Digests of the image's blocks as they are.
fn hashed(file: &(impl ReadAt + ?Sized), geometry: Geometry) -> Result<Leaves, leaves::Error> {
    let mut leaves = Leaves::default();
    let mut buffer = vec![0; READ_SIZE];
    let mut offset = 0;
    while offset < geometry.hash_offset() {
        let length = (geometry.hash_offset() - offset).min(READ_SIZE as u64);
        let piece = buffer.get_mut(..length as usize).unwrap_or_default();
        read(file, offset, piece)?;
        leaves.write(offset, piece)?;
        offset += length;
    }
    Ok(leaves)
}

/// The levels of the tree as the file has them, from the one over the data up.
fn stored_levels(
    file: &(impl ReadAt + ?Sized),
    geometry: Geometry,
) -> Result<Vec<Vec<BlockDigest>>, leaves::Error> {
    let read_level = |level: &super::geometry::Level| {
        let mut digests = vec![BlockDigest::default(); level.blocks as usize * PER_BLOCK];
        read(file, level.offset, digests.as_flattened_mut()).map(|()| digests)
    };
    geometry.levels().iter().map(read_level).collect()
}

fn check_superblock(
    file: &(impl ReadAt + ?Sized),
    geometry: Geometry,
    report: &mut dyn FnMut(Damage),
) -> Result<(), leaves::Error> {
    let offset = geometry.hash_offset();
    let mut block = [0; BLOCK];
    read(file, offset, &mut block)?;
    let reason = match Superblock::parse(&block) {
        Err(error) => error.to_string(),
        Ok(found) if found == Superblock::new(found.uuid, geometry) => return Ok(()),
        Ok(_) => "it describes another tree".to_owned(),
    };
    report(Damage::Superblock { offset, reason });
    Ok(())
}

fn read(file: &(impl ReadAt + ?Sized), offset: u64, buffer: &mut [u8]) -> Result<(), leaves::Error> {
    let cut = |source: io::Error| leaves::Error::Read { offset, source };
    file.read_exact_at(offset, buffer).map_err(cut)
}

/// A tree as it follows from the data, beside the one that is in the file.
struct Check<'a> {
    geometry: Geometry,
    hash: BlockHash,
    computed: Vec<&'a [BlockDigest]>,
    stored: &'a [Vec<BlockDigest>],
}

impl Check<'_> {
    /// Checks a block of a level of the tree, whose digest has to be `expected`, and all below it.
    fn level(&self, level: usize, block: usize, expected: &BlockDigest, report: &mut dyn FnMut(Damage)) {
        let computed = digests_in(self.computed.get(level).copied(), block);
        let stored = digests_in(self.stored.get(level).map(Vec::as_slice), block);
        let is_right = |digests: &[BlockDigest]| self.hash.digest(digests.as_flattened()) == *expected;
        let (computed_right, stored_right) = (is_right(computed), is_right(stored));
        if !stored_right {
            report(Damage::Tree { offset: self.offset_in_tree(level, block) });
        }
        match (computed_right, stored_right) {
            // All below follows from the data, of which this is the right digest; only the tree's own blocks
            // below may still be damaged.
            (true, _) => self.below(level, block, computed, report),
            (false, true) => self.below(level, block, stored, report),
            (false, false) => report(self.covered(level, block)),
        }
    }

    /// Checks what the digests in a block of the tree are of.
    fn below(&self, level: usize, block: usize, digests: &[BlockDigest], report: &mut dyn FnMut(Damage)) {
        let children = block * PER_BLOCK..;
        match level.checked_sub(1) {
            Some(below) => {
                let blocks = digests_len(self.computed.get(below).copied());
                for (child, expected) in children.zip(digests).take_while(|(child, _)| *child < blocks) {
                    self.level(below, child, expected, report);
                }
            }
            None => {
                let found = digests_in(self.computed.first().copied(), block);
                let data_blocks = self.geometry.data_blocks().get();
                for ((child, expected), found) in children.zip(digests).zip(found) {
                    if expected != found && (child as u64) < data_blocks {
                        report(Damage::Data { offset: child as u64 * BLOCK_SIZE });
                    }
                }
            }
        }
    }

    fn offset_in_tree(&self, level: usize, block: usize) -> u64 {
        let start = self.geometry.levels().get(level).map_or(0, |level| level.offset);
        start + block as u64 * BLOCK_SIZE
    }

    /// The part of the image below a block of the tree.
    fn covered(&self, level: usize, block: usize) -> Damage {
        let span = (PER_BLOCK as u64).saturating_pow(level as u32 + 1).saturating_mul(BLOCK_SIZE);
        let offset = span.saturating_mul(block as u64);
        Damage::Somewhere { offset, length: span.min(self.geometry.hash_offset().saturating_sub(offset)) }
    }
}

/// The digests in one block of a level.
fn digests_in(level: Option<&[BlockDigest]>, block: usize) -> &[BlockDigest] {
    level.and_then(|digests| digests.chunks(PER_BLOCK).nth(block)).unwrap_or_default()
}

/// The blocks of a level.
fn digests_len(level: Option<&[BlockDigest]>) -> usize {
    level.map_or(0, |digests| digests.len() / PER_BLOCK)
}
