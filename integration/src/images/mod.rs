//! Real images, made once and kept in the cache as OCI layouts.
//!
//! No public registry is needed: everything comes from Debian's archive, PyPI and npm, by their ordinary
//! clients, in pinned versions where the archive keeps versions.

pub mod bench;
pub mod demo;
pub mod layout;
pub mod trees;

use std::path::PathBuf;

/// An image in the cache.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its repository name.
    pub name: &'static str,
    /// Directory of the OCI layout; the image's tag in it is `latest`.
    pub layout: PathBuf,
}
