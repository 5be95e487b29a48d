//! What overlayfs marks in the trees of layers, and a stack of such trees as one.
//!
//! The marks are defined in the kernel's `Documentation/filesystems/overlayfs.rst`. They come in two
//! families of attributes; ours are those of `trusted.`, as none of our mounts has `userxattr`.
//!
//! * [`marks`]: which of them a layer may bring along in an image of its own.
//! * `stack`: what a name means in layers over one another.
//! * `merge`: several of them as one layer that needs none of their marks but whiteouts and opaque
//!   directories.

pub mod marks;
mod merge;
mod stack;
#[cfg(test)]
mod tests;

pub use merge::{Error, Flat, Layer, Merged, flatten, merge};
pub use stack::Place;

use crate::image::tar::XATTR_OPAQUE;
use crate::image::tree::{DeviceNumber, Inode, Metadata, Node};

/// The attribute of a directory or a file that was renamed: its former name in the same directory, or its
/// former path from the root, under which the layers below have the rest of it.
pub const XATTR_REDIRECT: &[u8] = b"trusted.overlay.redirect";

/// The attribute of a file that has metadata only; its data is in a layer below.
pub const XATTR_METACOPY: &[u8] = b"trusted.overlay.metacopy";

/// The attribute of an empty file that is a whiteout, in a directory that says that it has such.
const XATTR_WHITEOUT: &[u8] = b"trusted.overlay.whiteout";

/// What overlayfs keeps for itself.
const PRIVATE: &[u8] = b"trusted.overlay.";

/// Whether an attribute is one of overlayfs's own, which no one sees through it.
#[must_use]
pub fn is_private(name: &[u8]) -> bool {
    name.starts_with(PRIVATE)
}

/// Whether a directory hides what the layers below have in it.
#[must_use]
pub fn is_opaque(metadata: &Metadata) -> bool {
    metadata.xattrs.get(XATTR_OPAQUE).is_some_and(|value| value == b"y")
}

/// Whether files in a directory may be whiteouts by an attribute.
#[must_use]
pub fn has_xattr_whiteouts(metadata: &Metadata) -> bool {
    metadata.xattrs.get(XATTR_OPAQUE).is_some_and(|value| value == b"x")
}

/// Whether an entry of a directory says that its name is gone. `by_xattr` is what
/// [`has_xattr_whiteouts`] says of the directory.
#[must_use]
pub fn is_whiteout(inode: &Inode, by_xattr: bool) -> bool {
    match &inode.node {
        Node::CharacterDevice(DeviceNumber { major: 0, minor: 0 }) => true,
        Node::Regular(data) => {
            by_xattr && data.size == 0 && inode.metadata.xattrs.contains_key(XATTR_WHITEOUT)
        }
        _ => false,
    }
}
