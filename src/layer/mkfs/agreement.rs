//! Whether mkfs.erofs read a tar as our own reader does: names, types, sizes, owners, modes and what hides the
//! layers below.
//!
//! Two readings of one archive are a way to hide files from whoever checks it.

use crate::image::overlay;
use crate::image::tar::XATTR_IMPLICIT;
use crate::image::tree::{Inode, Node, Tree};

/// A path at which the two trees differ.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "mkfs.erofs made something else of {path:?} than the tar says ({what}); have the layer made without mkfs_options, \
     or publish it without what the two understand differently"
)]
pub struct Disagreement {
    /// The path in the layer.
    pub path: String,
    /// In which respect they differ.
    pub what: &'static str,
}

/// Compares what our reader saw with what the image shows.
///
/// # Errors
/// [`Disagreement`] names the first difference.
pub(super) fn check(ours: &Tree, theirs: &Tree) -> Result<(), Disagreement> {
    let mut unread = vec![(Vec::new(), Tree::ROOT, Tree::ROOT)];
    while let Some((path, our_id, their_id)) = unread.pop() {
        let (our, their) = (ours.inode(our_id), theirs.inode(their_id));
        check_inode(our, their, path.is_empty()).map_err(|what| differ(&path, what))?;
        let (Node::Directory(our), Node::Directory(their)) = (&our.node, &their.node) else { continue };
        if our.entries.len() != their.entries.len() {
            return Err(differ(&path, "the number of entries"));
        }
        for ((name, &our), (found, &their)) in our.entries.iter().zip(&their.entries) {
            let path = [path.as_slice(), b"/", name].concat();
            if name != found {
                return Err(differ(&path, "the names in the directory"));
            }
            unread.push((path, our, their));
        }
    }
    Ok(())
}

fn differ(path: &[u8], what: &'static str) -> Disagreement {
    Disagreement { path: String::from_utf8_lossy(path).into_owned(), what }
}

fn check_inode(our: &Inode, their: &Inode, is_root: bool) -> Result<(), &'static str> {
    check_node(&our.node, &their.node)?;
    if overlay::is_opaque(&our.metadata) != overlay::is_opaque(&their.metadata) {
        return Err("what it hides of the layers below");
    }
    // What stands for a name that is gone, or was made up, has no metadata of its own.
    let made_up = our.metadata.xattrs.contains_key(XATTR_IMPLICIT);
    if made_up || is_root || overlay::is_whiteout(our, false) {
        return Ok(());
    }
    let metadata = |inode: &Inode| (inode.metadata.mode, inode.metadata.uid, inode.metadata.gid);
    if metadata(our) == metadata(their) { Ok(()) } else { Err("its mode or owner") }
}

fn check_node(our: &Node, their: &Node) -> Result<(), &'static str> {
    let same = match (our, their) {
        (Node::Directory(_), Node::Directory(_))
        | (Node::Fifo, Node::Fifo)
        | (Node::Socket, Node::Socket) => true,
        (Node::Regular(our), Node::Regular(their)) => our.size == their.size,
        (Node::Symlink(our), Node::Symlink(their)) => our == their,
        (Node::CharacterDevice(our), Node::CharacterDevice(their))
        | (Node::BlockDevice(our), Node::BlockDevice(their)) => our == their,
        _ => false,
    };
    if same { Ok(()) } else { Err("its type or size") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tree::{Directory, FileData, InodeId, Metadata};

    fn inode(mode: u16, node: Node) -> Inode {
        Inode { metadata: Metadata { mode, ..Metadata::default() }, node }
    }

    fn tree(name: &[u8], mode: u16, size: u64) -> Tree {
        let root = Directory { entries: [(name.to_vec(), InodeId(1))].into() };
        let file = Node::Regular(FileData { size, extents: Vec::new() });
        Tree { inodes: vec![inode(0o755, Node::Directory(root)), inode(mode, file)] }
    }

    #[test]
    fn a_difference_is_named() {
        let ours = tree(b"a", 0o644, 5);
        assert_eq!(check(&ours, &ours), Ok(()));
        for (theirs, what) in [
            (tree(b"b", 0o644, 5), "the names in the directory"),
            (tree(b"a", 0o600, 5), "its mode or owner"),
            (tree(b"a", 0o644, 6), "its type or size"),
        ] {
            assert_eq!(check(&ours, &theirs), Err(Disagreement { path: "/a".into(), what }));
        }
    }
}
