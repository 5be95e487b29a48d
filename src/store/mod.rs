//! What survives a restart: the database, the files beside it, and how both change safely.
//!
//! * [`database`]: records in redb, one durable transaction per state change.
//! * [`sidecar`]: the copy of each record in the directory that it describes, from which a
//!   damaged database is rebuilt.
//! * [`staging`]: new directories are filled out of sight and renamed into place.
//! * [`trash`]: old directories are renamed out of sight and deleted behind the caller's back.
//! * [`tree`]: walks of directory trees by descriptor.
//! * [`unique`]: names that are never given twice.

pub mod database;
mod durable;
mod error;
#[cfg(test)]
pub(crate) mod faults;
mod immutable;
mod medium;
pub mod sidecar;
pub mod staging;
pub mod trash;
pub mod tree;
pub mod unique;

pub use durable::sync_directory;
pub use error::Error;
pub(crate) use medium::{FileMedium, Medium};
