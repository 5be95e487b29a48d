//! The marks of overlayfs that a layer may bring along in an image of its own.
//!
//! A tar says by file names what a layer takes away, and attributes of overlayfs in it are dropped
//! (`docs/tar-semantics.md`). An image is mounted as it is, so what would be dropped there is refused here.

use super::is_private;
use crate::image::tar::{XATTR_IMPLICIT, XATTR_OPAQUE};
use crate::image::tree::{Inode, Node, Tree};

/// What mkfs.erofs gives directories that have whiteouts in them. It names no origin, as it is empty.
const XATTR_ORIGIN: &[u8] = b"trusted.overlay.origin";

/// The second family of overlayfs's attributes, which it obeys on mounts with `userxattr`.
const USER: &[u8] = b"user.overlay.";

/// An attribute that no layer may have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "inode {inode} of the image has the attribute {name:?}, by which overlayfs would show what is not in the layer; \
     make the image of a tar layer, which has none"
)]
pub struct ForbiddenMark {
    /// The inode, in the order in which the image is read.
    pub inode: u32,
    /// The attribute, with `?` for what is no text.
    pub name: String,
}

/// Refuses a tree with attributes of overlayfs other than those of opaque directories and those that mean
/// nothing to it.
///
/// # Errors
/// [`ForbiddenMark`] names the first one.
pub fn check(tree: &Tree) -> Result<(), ForbiddenMark> {
    for (number, inode) in (0..).zip(&tree.inodes) {
        for (name, value) in &inode.metadata.xattrs {
            if is_mark(name) && !is_allowed(inode, name, value) {
                let name = String::from_utf8_lossy(name).into_owned();
                return Err(ForbiddenMark { inode: number, name });
            }
        }
    }
    Ok(())
}

fn is_mark(name: &[u8]) -> bool {
    is_private(name) || name.starts_with(USER)
}

fn is_allowed(inode: &Inode, name: &[u8], value: &[u8]) -> bool {
    let directory = matches!(inode.node, Node::Directory(_));
    directory
        && match name {
            XATTR_OPAQUE | XATTR_IMPLICIT => value == b"y",
            XATTR_ORIGIN => value.is_empty(),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tree::{Directory, FileData, Metadata};

    fn tree(node: Node, name: &str, value: &[u8]) -> Tree {
        let root = Node::Directory(Directory::default());
        let xattrs = [(name.into(), value.into())].into();
        let marked = Inode { metadata: Metadata { xattrs, ..Metadata::default() }, node };
        Tree { inodes: vec![Inode { metadata: Metadata::default(), node: root }, marked] }
    }

    #[test]
    fn only_what_a_tar_layer_has_too_is_allowed() {
        let directory = || Node::Directory(Directory::default());
        let file = || Node::Regular(FileData::default());
        for (node, name, value) in [
            (directory(), "trusted.overlay.opaque", b"y".as_slice()),
            (directory(), "trusted.overlay.nexuserofs.implicit", b"y"),
            (directory(), "trusted.overlay.origin", b""),
            (file(), "trusted.overlays", b"a name that only begins alike"),
            (file(), "user.overlay", b""),
        ] {
            assert_eq!(check(&tree(node, name, value)), Ok(()), "{name}");
        }
        for (node, name, value) in [
            (file(), "trusted.overlay.opaque", b"y".as_slice()),
            (directory(), "trusted.overlay.opaque", b"x"),
            (directory(), "trusted.overlay.origin", b"a file handle"),
            (directory(), "trusted.overlay.redirect", b"/etc"),
            (file(), "trusted.overlay.metacopy", b""),
            (file(), "trusted.overlay.whiteout", b""),
            (directory(), "user.overlay.opaque", b"y"),
            (file(), "trusted.overlay.", b""),
        ] {
            let refused = check(&tree(node, name, value));
            assert_eq!(refused, Err(ForbiddenMark { inode: 1, name: name.into() }));
        }
    }
}
