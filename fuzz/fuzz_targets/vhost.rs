//! Chains of descriptors in the memory of a guest, and bytes that the guest puts over them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nexuserofs_fuzz::vhost::Input;

fuzz_target!(|input: Input| nexuserofs_fuzz::vhost::check(&input));
