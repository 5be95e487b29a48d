//! Any bytes as each document that a host gives to a guest, told apart by the first byte.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| nexuserofs_fuzz::guest::check(input));
