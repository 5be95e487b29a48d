//! What a tar means: one test for each row of `docs/tar-semantics.md`, archives of other programs,
//! and random trees.
//!
//! `archive` writes archives byte by byte, `sparse_file` the sparse files in them; `listing` reads
//! archives and shows the tree as text.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod archive;
mod documentation;
mod duplicates;
mod formats;
mod limits;
mod links;
mod listing;
mod oracles;
mod paths;
mod random;
mod seeds;
#[path = "../helpers/skipped.rs"]
mod skipped;
mod sparse;
mod sparse_file;
mod truncation;
mod types;
mod whiteouts;
mod writing;
mod xattrs;
