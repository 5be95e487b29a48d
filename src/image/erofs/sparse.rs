//! How coarsely the data of a sparse file is to be stored.

use std::ops::Range;

use super::format::CHUNK_INDEX_SIZE;
use super::mapping::{CHUNK_BITS_MAX, CHUNKS_MAX};
use crate::image::tree::BLOCK_SIZE;

/// Most bytes that the holes of one file may cost, in its index and in stored zeros.
const OVERHEAD_MAX: u64 = 256 << 20;

/// The unit in which to store the data of a sparse file, in bytes: a power of two, at least 4096.
///
/// A file with holes is divided into chunks of one size, each of them all hole or all stored, and
/// its index has 8 bytes a chunk. One block of data somewhere in a tebibyte thus takes either an
/// index of 2 GiB or the storing of some zeros around it. So a reader rounds each run of data
/// outward to this unit, at most to the end of the file's last block, and appends zeros for what
/// it adds; index and zeros together are smallest then.
///
/// `size` is that of the file, `runs` are its data in bytes, ascending. `None` if they are so
/// scattered that index and zeros would take more than 256 MiB.
#[must_use]
pub fn sparse_unit(size: u64, runs: &[Range<u64>]) -> Option<u64> {
    let blocks = size.div_ceil(BLOCK_SIZE);
    let data = stored_blocks(blocks, runs, 0).saturating_mul(BLOCK_SIZE);
    let (cost, bits) = (0..=CHUNK_BITS_MAX)
        .filter(|bits| blocks.div_ceil(1 << bits) <= CHUNKS_MAX)
        .map(|bits| {
            let index = blocks.div_ceil(1 << bits) * CHUNK_INDEX_SIZE;
            let stored = stored_blocks(blocks, runs, bits).saturating_mul(BLOCK_SIZE);
            (stored.saturating_add(index), bits)
        })
        .min()?;
    (cost.saturating_sub(data) <= OVERHEAD_MAX).then_some(BLOCK_SIZE << bits)
}

/// Blocks that are stored of a file of `blocks` when runs are rounded to units of `1 << bits`.
fn stored_blocks(blocks: u64, runs: &[Range<u64>], bits: u32) -> u64 {
    let unit = BLOCK_SIZE << bits;
    let mut covered = 0;
    let mut stored = 0;
    for run in runs.iter().filter(|run| !run.is_empty()) {
        let start = (run.start / unit) << bits;
        let end = run.end.div_ceil(unit).saturating_mul(1 << bits).min(blocks);
        stored += end.saturating_sub(start.max(covered));
        covered = covered.max(end);
    }
    stored
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn one(run: Range<u64>) -> [Range<u64>; 1] {
        [run]
    }

    #[test]
    fn dense_and_empty_files_need_no_padding() {
        assert_eq!(sparse_unit(0, &[]), Some(4096));
        assert_eq!(sparse_unit(5 * 4096, &[]), Some(8 * 4096));
        assert_eq!(sparse_unit(1 << 60, &[]), Some(4096 << 31));
        // Storing a hole's block costs more than all the index that it saves.
        assert_eq!(sparse_unit(64 * 4096, &one(4096..2 * 4096)), Some(4096));
    }

    #[test]
    fn aligned_runs_are_stored_in_their_own_alignment() {
        assert_eq!(sparse_unit(GIB, &[0..16 << 20, 512 << 20..528 << 20]), Some(16 << 20));
    }

    #[test]
    fn one_block_in_a_tebibyte_takes_a_few_mebibytes() {
        let block = 123_456_789 * 4096;
        let unit = sparse_unit(1024 * GIB, &one(block + 5..block + 6)).unwrap();
        assert_eq!(unit, 2 << 20);
        let index = 1024 * GIB / unit * CHUNK_INDEX_SIZE;
        assert_eq!(unit + index, 6 << 20);
    }

    #[test]
    fn the_end_of_the_file_is_not_padded() {
        let size = 100 * GIB + 1;
        assert_eq!(stored_blocks(size.div_ceil(4096), &one(100 * GIB..size), 9), 1);
    }

    #[test]
    fn no_input_is_too_odd() {
        let runs = [u64::MAX - 1..u64::MAX, 5..5, 0..u64::MAX];
        for runs in [&runs[..], &runs[..1], &[]] {
            for size in [0, 1, u64::MAX] {
                let unit = sparse_unit(size, runs);
                assert!(unit.is_none_or(u64::is_power_of_two), "{size} {runs:?}");
            }
        }
    }

    #[test]
    fn scattered_data_is_refused() {
        let step = (1 << 60) / 1000;
        let runs: Vec<_> = (0..1000).map(|i| i * step..i * step + 1).collect();
        assert_eq!(sparse_unit(1 << 60, &runs), None);
    }
}
