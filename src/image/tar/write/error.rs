//! Why an archive was not written.

use std::io;

use crate::image::tar::error::Name;

/// Why an archive was not written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The archive cannot be stored.
    #[error("cannot write the layer's tar stream: {0}")]
    Write(#[source] io::Error),
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: Name,
        /// The system's reason.
        source: io::Error,
    },
    /// A file has fewer bytes than its inode said.
    #[error("{path} became shorter than {size} bytes while it was read: pause the container and try again")]
    Shrunk {
        /// The file.
        path: Name,
        /// Its size before, in bytes.
        size: u64,
    },
    /// A name that would be read as a whiteout.
    #[error("{path} cannot be in a layer: names that begin with .wh. stand for deleted files; rename it")]
    ReservedName {
        /// The entry.
        path: Name,
    },
    /// A device number that Linux does not have.
    #[error("{path} is device {major}:{minor}, but the largest in a layer is 4095:1048575; remove it")]
    Device {
        /// The entry.
        path: Name,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// An attribute whose name a PAX record cannot hold.
    #[error(
        "{path} has the extended attribute {xattr}, but no layer can have one with = or NUL in its name; remove it"
    )]
    XattrName {
        /// The entry.
        path: Name,
        /// The attribute.
        xattr: Name,
    },
    /// An entry that overlayfs completes with one of a layer below.
    #[error(
        "{path} takes its content from another layer, by the attribute {xattr}, and that was not resolved"
    )]
    Unresolved {
        /// The entry.
        path: Name,
        /// The attribute.
        xattr: Name,
    },
}
