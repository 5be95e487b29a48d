//! EROFS images that the writer made, seen by readers that it shares no code with.
//!
//! * `sample`: trees with their data, from which images are made; `everything` is one with all that an
//!   image can hold, `random` makes others.
//! * `listing`: everything that can be seen of a tree, by whichever reader. The readers are
//!   `independent`, the `erofs-rs` crate, `mounted`, the kernel, and `own`, ours.
//! * `readback`: random and crafted trees through the independent reader and ours.
//! * `foreign`: our reader on images of mkfs.erofs, and on damaged ones; `seeds`: small images to fuzz it with.
//! * `taken_over`: our reader on whatever the kernel mounts from one file, and on what it must not.
//! * `rewritten`: images read back and written as tar, and these made images again.
//! * `golden`: digests of whole images, which no release may change.
//! * `hostile`: trees that no reader of ours makes.
//! * `kernel`: the same through a mount; needs root and a kernel with file-backed EROFS.
//! * `written`: samples as directories, through the builder for what was written, and both readers.
//! * `archives`: samples as tar archives; `layers`: what the layer builder makes of these, through both
//!   readers.

// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../tar_semantics/archive.rs"]
#[allow(dead_code)]
mod archive;
mod archives;
mod everything;
mod foreign;
mod golden;
mod hostile;
mod independent;
mod kernel;
mod layers;
mod listing;
mod mounted;
mod own;
mod random;
mod readback;
mod rewritten;
mod sample;
mod seeds;
#[path = "../helpers/skipped.rs"]
mod skipped;
#[path = "../tar_semantics/sparse_file.rs"]
mod sparse_file;
mod taken_over;
#[path = "../helpers/unmounting.rs"]
mod unmounting;
mod written;
