//! How the data of a regular file is addressed: one run of blocks, or an index of chunks for a
//! file with holes.

use std::ops::Range;

use super::devices::Home;
use super::error::Problem;
use crate::image::tree::{BLOCK_SIZE, Extent, FileData};

/// Block address of a hole, and of an inode that has no block.
pub(super) const NO_BLOCK: u32 = u32::MAX;

/// Most chunks of one file. Its index is metadata: it must not grow out of proportion to what a
/// layer holds.
pub(super) const CHUNKS_MAX: u64 = 2 << 20;

/// Largest chunk, as a power of two in blocks: the field has five bits.
pub(super) const CHUNK_BITS_MAX: u32 = 31;

/// Where a regular file's data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mapping {
    /// The file is empty.
    Empty,
    /// All blocks follow one another from this one on.
    Contiguous(u32),
    /// There are holes, or several runs.
    Chunked(Chunks),
}

/// A division of a file into chunks, each of which is a hole or contiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunks {
    /// Size of a chunk, as a power of two in blocks.
    pub(super) bits: u32,
    /// Number of chunks, of which the last may be cut short by the end of the file.
    pub(super) count: u64,
}

impl Mapping {
    /// The mapping of `data`, whose extents have to lie in the blocks `1..home.end`. Only an index can say
    /// that data is on another device.
    pub(super) fn of(data: &FileData, home: Home) -> Result<Self, Problem> {
        if i64::try_from(data.size).is_err() {
            return Err(Problem::FileSize(data.size));
        }
        let blocks = data.size.div_ceil(BLOCK_SIZE);
        check_extents(&data.extents, blocks, home.end)?;
        if blocks == 0 {
            return Ok(Self::Empty);
        }
        match Runs::of(&data.extents).next() {
            Some(run) if run.file == (0..blocks) && home.device == 0 => Ok(Self::Contiguous(run.image)),
            _ => Chunks::of(&data.extents, blocks).map(Self::Chunked),
        }
    }
}

impl Chunks {
    /// The largest chunks that the runs permit: no chunk may hold a hole beside data, or two runs.
    fn of(extents: &[Extent], blocks: u64) -> Result<Self, Problem> {
        let whole_file = blocks.next_power_of_two().trailing_zeros().min(CHUNK_BITS_MAX);
        let bits = Runs::of(extents)
            .flat_map(|run| [run.file.start, run.file.end])
            .filter(|&edge| edge != blocks)
            .map(u64::trailing_zeros)
            .fold(whole_file, u32::min);
        let count = blocks.div_ceil(1 << bits);
        if count > CHUNKS_MAX {
            return Err(Problem::SparseMap { chunks: count, limit: CHUNKS_MAX });
        }
        Ok(Self { bits, count })
    }

    /// The image block at which each chunk starts, or [`NO_BLOCK`] for a hole.
    pub(super) fn addresses(self, extents: &[Extent]) -> impl Iterator<Item = u32> {
        let mut runs = Runs::of(extents).peekable();
        (0..self.count).map(move |index| {
            let block = index << self.bits;
            while runs.next_if(|run| run.file.end <= block).is_some() {}
            match runs.peek() {
                // A run ends inside the image, so its offset fits a block address.
                Some(run) if run.file.start <= block => run.image + (block - run.file.start) as u32,
                _ => NO_BLOCK,
            }
        })
    }
}

/// A run of a file's blocks that is contiguous in the image.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Run {
    file: Range<u64>,
    image: u32,
}

/// The longest runs that extents make up.
struct Runs<'e> {
    extents: std::iter::Peekable<std::slice::Iter<'e, Extent>>,
}

impl<'e> Runs<'e> {
    fn of(extents: &'e [Extent]) -> Self {
        Self { extents: extents.iter().peekable() }
    }
}

impl Iterator for Runs<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        let first = self.extents.next()?;
        let image = first.image_block;
        let mut file = first.file_block..first.file_block + u64::from(first.blocks);
        while let Some(more) = self.extents.next_if(|extent| {
            extent.file_block == file.end
                && u64::from(extent.image_block) == u64::from(image) + (file.end - file.start)
        }) {
            file.end += u64::from(more.blocks);
        }
        Some(Run { file, image })
    }
}

/// Refuses extents that are not in order, or reach beyond the file or the image's data.
fn check_extents(extents: &[Extent], blocks: u64, data_end: u32) -> Result<(), Problem> {
    let mut free_from = 0;
    for extent in extents {
        let file_end = extent.file_block.checked_add(u64::from(extent.blocks));
        let image_end = u64::from(extent.image_block) + u64::from(extent.blocks);
        let in_file = extent.file_block >= free_from && file_end.is_some_and(|end| end <= blocks);
        let in_image = extent.image_block >= 1 && image_end <= u64::from(data_end);
        match file_end {
            Some(end) if in_file && in_image && extent.blocks > 0 => free_from = end,
            _ => return Err(Problem::Extent { file_block: extent.file_block }),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: Home = Home { device: 0, end: 1000 };

    fn data(size: u64, extents: &[(u64, u32, u32)]) -> FileData {
        let extents = extents
            .iter()
            .map(|&(file_block, image_block, blocks)| Extent { file_block, image_block, blocks })
            .collect();
        FileData { size, extents }
    }

    fn mapping(size: u64, extents: &[(u64, u32, u32)]) -> Result<Mapping, Problem> {
        Mapping::of(&data(size, extents), HOME)
    }

    fn addresses(size: u64, extents: &[(u64, u32, u32)]) -> (u32, Vec<u32>) {
        let data = data(size, extents);
        match Mapping::of(&data, HOME) {
            Ok(Mapping::Chunked(chunks)) => (chunks.bits, chunks.addresses(&data.extents).collect()),
            other => panic!("not chunked: {other:?}"),
        }
    }

    #[test]
    fn dense_files_need_no_index() {
        assert_eq!(mapping(0, &[]), Ok(Mapping::Empty));
        assert_eq!(mapping(1, &[(0, 7, 1)]), Ok(Mapping::Contiguous(7)));
        assert_eq!(mapping(3 * 4096, &[(0, 7, 1), (1, 8, 2)]), Ok(Mapping::Contiguous(7)));
    }

    #[test]
    fn a_dense_file_on_a_device_is_one_chunk() {
        let device = |size, extents: &[_]| Mapping::of(&data(size, extents), Home { device: 3, end: 9 });
        assert_eq!(device(0, &[]), Ok(Mapping::Empty));
        for (blocks, bits) in [(1, 0), (2, 1), (3, 2)] {
            let chunk = Mapping::Chunked(Chunks { bits, count: 1 });
            assert_eq!(device(u64::from(blocks) * 4096, &[(0, 6, blocks)]), Ok(chunk));
        }
        assert_eq!(device(4 * 4096, &[(0, 6, 4)]), Err(Problem::Extent { file_block: 0 }));
    }

    #[test]
    fn chunks_are_as_large_as_the_runs_permit() {
        assert_eq!(addresses(5 * 4096, &[]), (3, vec![NO_BLOCK]));
        assert_eq!(addresses(8 * 4096, &[(4, 50, 4)]), (2, vec![NO_BLOCK, 50]));
        // The last run may end with the file inside a chunk.
        assert_eq!(addresses(7 * 4096 - 1, &[(4, 50, 3)]), (2, vec![NO_BLOCK, 50]));
        assert_eq!(addresses(8 * 4096, &[(4, 50, 3)]).0, 0);
        assert_eq!(
            addresses(12 * 4096, &[(2, 50, 4), (6, 80, 2)]),
            (1, vec![NO_BLOCK, 50, 52, 80, NO_BLOCK, NO_BLOCK])
        );
        // Neighbours in the file that are not neighbours in the image.
        assert_eq!(addresses(2 * 4096, &[(0, 9, 1), (1, 8, 1)]), (0, vec![9, 8]));
    }

    #[test]
    fn an_empty_exbibyte_is_indexed_cheaply() {
        let (bits, addresses) = addresses(1 << 60, &[]);
        assert_eq!((bits, addresses.len()), (31, 1 << 17));
    }

    #[test]
    fn a_hostile_sparse_map_is_refused() {
        let tebibyte = 1 << 40;
        assert_eq!(
            mapping(tebibyte, &[(12345, 1, 1)]),
            Err(Problem::SparseMap { chunks: 1 << 28, limit: CHUNKS_MAX })
        );
    }

    #[test]
    fn extents_must_fit() {
        assert_eq!(mapping(u64::MAX, &[]), Err(Problem::FileSize(u64::MAX)));
        for extents in [
            [(0, 0, 1)].as_slice(),  // the superblock
            &[(0, 1, 0)],            // empty
            &[(0, 999, 2)],          // past the data
            &[(1, 5, 1), (0, 6, 1)], // out of order
            &[(0, 5, 2), (1, 9, 1)], // overlapping
            &[(3, 5, 2)],            // past the end of the file
            &[(u64::MAX, 5, 1)],
        ] {
            assert!(matches!(mapping(4 * 4096, extents), Err(Problem::Extent { .. })), "{extents:?}");
        }
    }
}
