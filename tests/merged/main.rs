//! Merged images, seen through the kernel beside the overlay of their layers.
//!
//! * `stack`: layers over one another, random ones and one with everything.
//! * `mounting`: layers and merged images mounted; `same`: whether two mounts show the same.
//! * `kernel`: what must hold of every merged image. Needs root and a kernel with file-backed EROFS.
//! * `pure`: that the bytes depend on the layers alone, and what cannot be merged.

// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod kernel;
#[path = "../erofs/listing.rs"]
#[allow(dead_code)]
mod listing;
#[path = "../erofs/mounted.rs"]
#[allow(dead_code)]
mod mounted;
mod mounting;
mod pure;
mod same;
#[path = "../erofs/sample.rs"]
#[allow(dead_code)]
mod sample;
#[path = "../helpers/skipped.rs"]
mod skipped;
mod stack;
