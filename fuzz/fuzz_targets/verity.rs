//! Any bytes as the superblock of a dm-verity tree.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nexuserofs::image::verity::Superblock;

fuzz_target!(|bytes: &[u8]| {
    let Ok(superblock) = Superblock::parse(bytes) else { return };
    assert!(superblock.salt.len() <= 256 && superblock.algorithm.len() <= 32);
    assert_eq!(Superblock::parse(&superblock.encode()), Ok(superblock));
});
