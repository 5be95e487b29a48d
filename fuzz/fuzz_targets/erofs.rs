//! Any bytes as an EROFS image. Mutated inputs get the right checksum, or few would get past the superblock.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use nexuserofs_fuzz::superblock;

fuzz_target!(|image: &[u8]| nexuserofs_fuzz::reader::check(image));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let size = fuzzer_mutate(data, size, max_size);
    superblock::repair(&mut data[..size], seed);
    size
});
