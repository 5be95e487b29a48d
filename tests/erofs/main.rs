//! EROFS images that the writer made, seen by readers that it shares no code with.
//!
//! * `sample`: trees with their data, from which images are made; `everything` is one with all that an
//!   image can hold, `random` makes others.
//! * `listing`: everything that can be seen of a tree, by whichever reader.
//! * `readback`: random and crafted trees through the `erofs-rs` crate.
//! * `golden`: digests of whole images, which no release may change.
//! * `hostile`: trees that no reader of ours makes.
//! * `kernel`: the same through a mount; needs root and a kernel with file-backed EROFS.

// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used)]

mod everything;
mod golden;
mod hostile;
mod kernel;
mod listing;
mod random;
mod readback;
mod sample;
#[path = "../helpers/skipped.rs"]
mod skipped;
