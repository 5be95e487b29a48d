//! Any bytes as an EROFS image. Mutated inputs get the right checksum, or few would get past the superblock.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

/// Where the superblock is, and where its block ends.
const SUPERBLOCK: std::ops::Range<usize> = 1024..4096;

fuzz_target!(|image: &[u8]| nexuserofs_fuzz::reader::check(image));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let size = fuzzer_mutate(data, size, max_size);
    if !seed.is_multiple_of(8)
        && let Some(superblock) = data[..size].get_mut(SUPERBLOCK)
    {
        repair(superblock);
    }
    size
});

/// Puts the right checksum into a superblock: CRC-32C without the final inversion, over the rest of the
/// block with zeros in the checksum's place.
fn repair(superblock: &mut [u8]) {
    superblock[4..8].fill(0);
    let checksum = !crc32c::crc32c(superblock);
    superblock[4..8].copy_from_slice(&checksum.to_le_bytes());
}
