//! A tree and the contents of its files into the uncompressed tar stream of an OCI layer.
//!
//! [`write()`] is the inverse of [`read_layer`](super::read_layer): what it writes is read back as the same
//! tree, but for sockets, which tar does not know, and for the owner and time of whiteouts, which mean
//! nothing. The bytes are a pure function of tree, contents and options: entries are in byte order of
//! their paths, a directory before what is in it. The rules are in `docs/tar-semantics.md`, "Writing".
//!
//! * `header`: a member's header block, and the PAX records for what does not fit into it.
//! * `archive`: the tree as a sequence of members.

mod archive;
mod error;
mod header;

use std::io::Write;

pub use error::Error;

use crate::image::tree::{Contents, Timestamp, Tree};
use archive::Archive;

/// What a caller may choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The latest time that the archive may have, that of its whiteouts too. Without it, times are those
    /// of the tree, and whiteouts have 1970.
    pub source_date_epoch: Option<Timestamp>,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Members of the archive.
    pub entries: u64,
    /// Sockets that were left out.
    pub sockets: u64,
}

/// Writes the whole archive, its two blocks of zeros at the end included.
///
/// # Errors
/// [`Error`] if the tree has what no layer can say, a file cannot be read, or `out` fails. What was
/// written up to then is no archive.
pub fn write<W: Write>(
    out: &mut W,
    tree: &Tree,
    contents: &dyn Contents,
    options: &Options,
) -> Result<Summary, Error> {
    Archive::new(out, tree, contents, options).write()
}
