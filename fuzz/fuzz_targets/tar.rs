//! Any bytes as a tar stream. Mutated inputs get right checksums, or few would get past a header.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

const BLOCK: usize = 512;

fuzz_target!(|archive: &[u8]| nexuserofs_fuzz::check(archive));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let size = fuzzer_mutate(data, size, max_size);
    if !seed.is_multiple_of(8) {
        repair(&mut data[..size]);
    }
    size
});

/// Puts the right checksum into every header that can be found by the sizes of those before it.
fn repair(archive: &mut [u8]) {
    let mut position = 0;
    while let Some(block) = archive.get_mut(position..position + BLOCK) {
        if block.iter().all(|&byte| byte == 0) {
            position += BLOCK;
            continue;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let has_body = !matches!(block[156], b'1'..=b'6');
        let digits = block[124..136].iter().take_while(|byte| (b'0'..=b'7').contains(byte));
        let size = digits.fold(0usize, |size, digit| size * 8 + usize::from(digit - b'0'));
        position += BLOCK + if has_body { size.next_multiple_of(BLOCK) } else { 0 };
    }
}
