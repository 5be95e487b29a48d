//! Images as block devices, without a virtual machine.
//!
//! * `chain`: layers on a disk, and the devices that are made of them.
//! * `golden`: what is written, byte for byte.
//! * `partitions`: disks with partitions, read by the crate `gpt`, which Kata uses.
//! * `made`: every form holds the layers' bytes, and is made once; what makes no device is refused.

// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod chain;
mod golden;
mod made;
mod partitions;
