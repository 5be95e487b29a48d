//! The host flavour on the kernel: what the daemon mounts, that plans work with nothing but mount(2),
//! and that mounts outlive the daemon but not what they show.
//!
//! Needs root and a kernel with EROFS, overlay, ext4 and loop devices; who asks learns what is missing.

// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

#[path = "../tar_semantics/archive.rs"]
mod archive;
mod blocks;
mod layers;
mod lifetime;
mod merged;
mod node;
mod quotas;
mod shifted;
#[path = "../helpers/skipped.rs"]
mod skipped;
#[path = "../helpers/unmounting.rs"]
mod unmounting;
mod verity;
