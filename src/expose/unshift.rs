//! Owners of files as a container with a user namespace sees them.
//!
//! What such a container writes lies on the host with owners that are shifted into its namespace. A layer
//! made of it has to have them as they are inside, or it would be of use to that container only.

use super::idmap::{IdMap, IdMapping};
use crate::image::tree::{Metadata, Tree};

/// What the kernel shows instead of an owner that has no place in a namespace
/// (`/proc/sys/kernel/overflowuid`).
const OVERFLOW: u32 = 65_534;

const CAPABILITY: &[u8] = b"security.capability";
const ACCESS_LISTS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];

/// Tags of the entries of an access control list that name an identifier (`linux/posix_acl.h`).
const ACL_USER: u16 = 0x02;
const ACL_GROUP: u16 = 0x08;

/// Gives a tree the owners that are seen inside, in access control lists and capabilities too.
pub fn unshift(tree: &mut Tree, mapping: &IdMapping) {
    for inode in &mut tree.inodes {
        unshift_inode(&mut inode.metadata, mapping);
    }
}

fn unshift_inode(metadata: &mut Metadata, mapping: &IdMapping) {
    metadata.uid = inside(&mapping.uids, metadata.uid);
    metadata.gid = inside(&mapping.gids, metadata.gid);
    for name in ACCESS_LISTS {
        if let Some(list) = metadata.xattrs.get_mut(name) {
            unshift_list(list, mapping);
        }
    }
    if let Some(capability) = metadata.xattrs.get_mut(CAPABILITY) {
        unshift_capability(capability, mapping);
    }
}

fn inside(map: &IdMap, id: u32) -> u32 {
    map.to_container(id).unwrap_or(OVERFLOW)
}

/// A list is four bytes of version, and entries of eight: tag, permissions, identifier
/// (`linux/posix_acl_xattr.h`).
fn unshift_list(list: &mut [u8], mapping: &IdMapping) {
    let Some((_, entries)) = list.split_first_chunk_mut::<4>() else { return };
    for [tag_low, tag_high, _, _, id @ ..] in entries.as_chunks_mut::<8>().0 {
        let map = match u16::from_le_bytes([*tag_low, *tag_high]) {
            ACL_USER => &mapping.uids,
            ACL_GROUP => &mapping.gids,
            _ => continue,
        };
        *id = inside(map, u32::from_le_bytes(*id)).to_le_bytes();
    }
}

/// Capabilities of revision 3 count for one namespace only, that with this root (`linux/capability.h`,
/// `vfs_ns_cap_data`). Those of this container are plain ones inside, of revision 2, which has no root.
fn unshift_capability(capability: &mut Vec<u8>, mapping: &IdMapping) {
    if let [_, _, _, revision @ 3, .., a, b, c, d] = capability.as_mut_slice()
        && mapping.uids.to_container(u32::from_le_bytes([*a, *b, *c, *d])) == Some(0)
    {
        *revision = 2;
        capability.truncate(capability.len() - 4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tree::{Inode, Node};

    fn mapping() -> IdMapping {
        IdMapping { uids: "0:100000:1000".parse().unwrap(), gids: "0:200000:1000".parse().unwrap() }
    }

    fn unshifted(metadata: Metadata) -> Metadata {
        let mut tree = Tree { inodes: vec![Inode { metadata, node: Node::Fifo }] };
        unshift(&mut tree, &mapping());
        tree.inodes.remove(0).metadata
    }

    #[test]
    fn owners_are_those_inside() {
        let owners = |uid, gid| {
            let Metadata { uid, gid, .. } = unshifted(Metadata { uid, gid, ..Metadata::default() });
            (uid, gid)
        };
        assert_eq!(owners(100_000, 200_005), (0, 5));
        assert_eq!(owners(0, 100_000), (OVERFLOW, OVERFLOW), "what has no place inside");
    }

    #[test]
    fn access_lists_name_owners_inside() {
        let entry = |tag: u16, id: u32| [&tag.to_le_bytes()[..], &[7, 0], &id.to_le_bytes()].concat();
        let list = |owner, user, group| {
            [vec![2, 0, 0, 0], entry(1, owner), entry(ACL_USER, user), entry(ACL_GROUP, group)].concat()
        };
        let xattrs = [(b"system.posix_acl_access".to_vec(), list(u32::MAX, 100_003, 200_004))].into();
        let metadata = unshifted(Metadata { xattrs, ..Metadata::default() });
        assert_eq!(metadata.xattrs[b"system.posix_acl_access".as_slice()], list(u32::MAX, 3, 4));
    }

    #[test]
    fn capabilities_of_the_container_become_plain_ones() {
        let capability = |revision: u8, root: &[u8]| [&[1, 0, 0, revision][..], &[9; 16], root].concat();
        let unshifted = |value| {
            let xattrs = [(CAPABILITY.to_vec(), value)].into();
            unshifted(Metadata { xattrs, ..Metadata::default() }).xattrs[CAPABILITY].clone()
        };
        let of = |root: u32| capability(3, &root.to_le_bytes());
        assert_eq!(unshifted(of(100_000)), capability(2, &[]));
        assert_eq!(unshifted(of(100_001)), of(100_001), "those of another namespace stay");
        assert_eq!(unshifted(capability(2, &[])), capability(2, &[]));
    }
}
