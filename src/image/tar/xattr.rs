//! Which extended attributes of an entry reach the image, and on what.

use super::error::{Fault, Name, Quantity, Refusal};
use super::limits::{MAX_XATTR_NAME, MAX_XATTR_VALUE};
use crate::image::tree::Node;

/// Name of the access control list.
pub(super) const ACCESS_ACL: &[u8] = b"system.posix_acl_access";

/// Name of the access control list that new files of a directory inherit.
pub(super) const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

/// Name of a program's capabilities.
pub(super) const CAPABILITY: &[u8] = b"security.capability";

/// Attributes by which overlayfs marks whiteouts, opaque directories, redirects and copies without
/// data. From a layer they would change what the layers below mean. The `user.` family counts on
/// mounts with `userxattr`.
const OVERLAY: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// Families that Linux and EROFS know, besides access control lists.
const FAMILIES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];

/// Names on which containerd fails, since Linux takes them for a mistake.
const NAMES_OF_NOTHING: [&[u8]; 3] = [b"", b"user.", b"security."];

/// Whether an attribute from the archive is kept on `node`. False for what has no effect or must
/// have none; an error for what Linux does not let anyone set.
pub(super) fn is_kept(name: &[u8], value: &[u8], node: &Node) -> Result<bool, Fault> {
    if NAMES_OF_NOTHING.contains(&name) {
        return Err(Refusal::XattrName(Name::new(name)).into());
    }
    let is_of = |family: &&[u8]| name.starts_with(family) && name.len() > family.len();
    let is_known = name == ACCESS_ACL || name == DEFAULT_ACL || FAMILIES.iter().any(is_of);
    if !is_known || OVERLAY.iter().any(|family| name.starts_with(family)) || !is_possible_on(name, node) {
        return Ok(false);
    }
    if name == DEFAULT_ACL && !matches!(node, Node::Directory(_)) {
        return Err(Refusal::DefaultAclOnFile.into());
    }
    if name == CAPABILITY && !is_capability(value) {
        return Err(Refusal::Capability.into());
    }
    Quantity::XattrNameBytes.check(name.len() as u64, MAX_XATTR_NAME as u64)?;
    Quantity::XattrValueBytes.check(value.len() as u64, MAX_XATTR_VALUE as u64)?;
    Ok(true)
}

/// Linux keeps `user.` attributes on files and directories only, and no access control lists on
/// symbolic links. containerd skips what Linux does not take there.
fn is_possible_on(name: &[u8], node: &Node) -> bool {
    match node {
        Node::Directory(_) | Node::Regular(_) => true,
        Node::Symlink(_) => !name.starts_with(b"user.") && !name.starts_with(b"system."),
        _ => !name.starts_with(b"user."),
    }
}

/// Whether Linux takes this as capabilities: revision 2 in 20 bytes, or revision 3 in 24
/// (`linux/capability.h`, `vfs_cap_data` and `vfs_ns_cap_data`). The first four bytes are the
/// revision, with a flag in the lowest bit.
fn is_capability(value: &[u8]) -> bool {
    matches!((value, value.len()), ([0 | 1, 0, 0, 2, ..], 20) | ([0 | 1, 0, 0, 3, ..], 24))
}
