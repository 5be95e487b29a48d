//! Any bytes as an image that somebody published as a layer: small blocks, compressed files, data behind the
//! image, and the marks of overlayfs.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use nexuserofs_fuzz::superblock;

fuzz_target!(|image: &[u8]| nexuserofs_fuzz::foreign::check(image));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let size = fuzzer_mutate(data, size, max_size);
    superblock::repair(&mut data[..size], seed);
    size
});
