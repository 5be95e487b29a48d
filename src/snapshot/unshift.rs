//! Owners of what a container with a user namespace wrote, as the container means them.
//!
//! What such a container writes has the owners on the host that its namespace maps its own to. A layer is
//! for any container, with any mapping or none.

use crate::expose::idmap::{IdMap, IdMapping};
use crate::image::tree::{DeviceNumber, Inode, Node, Tree};

/// What a container sees for an identifier that its namespace does not map: the kernel's overflow identifier.
const NOBODY: u32 = 65_534;

const CAPABILITY: &[u8] = b"security.capability";
const ACLS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];

/// `struct vfs_cap_data` (`include/uapi/linux/capability.h`): its revision is the highest byte of the first
/// number; revision 3 has the root of a namespace at its end.
const CAPABILITY_SIZE: [usize; 2] = [20, 24];
const REVISION: usize = 3;

/// An access control list as an attribute (`include/uapi/linux/posix_acl_xattr.h`): a version of 32 bits, then
/// entries of tag and permissions, 16 bits each, and an identifier. It means something with these tags.
const ACL_HEADER: usize = 4;
const ACL_ENTRY: usize = 8;
const ACL_USER: u16 = 0x02;
const ACL_GROUP: u16 = 0x08;

/// Gives everything in a tree the owners that the container sees.
pub fn unshift(tree: &mut Tree, mapping: &IdMapping) {
    tree.inodes.iter_mut().for_each(|inode| unshift_inode(inode, mapping));
}

fn unshift_inode(inode: &mut Inode, mapping: &IdMapping) {
    let is_whiteout = inode.node == Node::CharacterDevice(DeviceNumber::default());
    let metadata = &mut inode.metadata;
    if is_whiteout {
        // Overlay makes them with its mounter's owner, and nobody ever sees it.
        (metadata.uid, metadata.gid) = (0, 0);
        return;
    }
    metadata.uid = in_container(&mapping.uids, metadata.uid);
    metadata.gid = in_container(&mapping.gids, metadata.gid);
    for name in ACLS {
        if let Some(acl) = metadata.xattrs.get_mut(name) {
            unshift_acl(acl, mapping);
        }
    }
    if let Some(capability) = metadata.xattrs.get_mut(CAPABILITY) {
        unshift_capability(capability, &mapping.uids);
    }
}

fn in_container(map: &IdMap, id: u32) -> u32 {
    map.to_container(id).unwrap_or(NOBODY)
}

fn unshift_acl(acl: &mut [u8], mapping: &IdMapping) {
    for entry in acl.get_mut(ACL_HEADER..).unwrap_or_default().chunks_exact_mut(ACL_ENTRY) {
        let Some((tag, rest)) = entry.split_first_chunk_mut::<2>() else { continue };
        let Some(id) = rest.last_chunk_mut::<4>() else { continue };
        let map = match u16::from_le_bytes(*tag) {
            ACL_USER => &mapping.uids,
            ACL_GROUP => &mapping.gids,
            _ => continue,
        };
        *id = in_container(map, u32::from_le_bytes(*id)).to_le_bytes();
    }
}

/// A capability that the container's root gave holds for the root of that namespace only. In a layer it holds
/// for that of whichever namespace there is, which is what revision 2 says.
fn unshift_capability(capability: &mut Vec<u8>, uids: &IdMap) {
    let [revision_2, revision_3] = CAPABILITY_SIZE;
    if capability.len() != revision_3 || capability.get(REVISION) != Some(&3) {
        return;
    }
    let root = capability.last_chunk::<4>().map(|root| uids.to_container(u32::from_le_bytes(*root)));
    match root.flatten() {
        Some(0) => {
            capability.truncate(revision_2);
            if let Some(revision) = capability.get_mut(REVISION) {
                *revision = 2;
            }
        }
        Some(other) => {
            if let Some(root) = capability.last_chunk_mut::<4>() {
                *root = other.to_le_bytes();
            }
        }
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tree::{Directory, Metadata};

    fn mapping() -> IdMapping {
        IdMapping {
            uids: "0:100000:1000,2000:300000:10".parse().unwrap(),
            gids: "0:200000:1000".parse().unwrap(),
        }
    }

    fn owned(uid: u32, gid: u32, node: Node) -> Inode {
        Inode { metadata: Metadata { uid, gid, ..Metadata::default() }, node }
    }

    #[test]
    fn owners_are_those_that_the_container_sees() {
        let mut tree = Tree {
            inodes: vec![
                owned(100_000, 200_000, Node::Directory(Directory::default())),
                owned(300_005, 200_999, Node::Fifo),
                owned(0, 7, Node::Fifo),
                owned(0, 0, Node::CharacterDevice(DeviceNumber::default())),
            ],
        };
        unshift(&mut tree, &mapping());
        let owners: Vec<_> = tree.inodes.iter().map(|i| (i.metadata.uid, i.metadata.gid)).collect();
        assert_eq!(owners, [(0, 0), (2005, 999), (NOBODY, NOBODY), (0, 0)]);
    }

    #[test]
    fn access_control_lists_name_users_and_groups_of_the_container() {
        let acl = |user: u32, group: u32| {
            let mut acl = vec![2, 0, 0, 0];
            for (tag, id) in [(1_u16, u32::MAX), (2, user), (4, u32::MAX), (8, group), (0x20, u32::MAX)] {
                acl.extend(tag.to_le_bytes());
                acl.extend([7, 0]);
                acl.extend(id.to_le_bytes());
            }
            acl
        };
        let mut inode = owned(100_000, 200_000, Node::Fifo);
        inode.metadata.xattrs.insert(ACLS[0].to_vec(), acl(100_033, 200_005));
        inode.metadata.xattrs.insert(b"user.own".to_vec(), acl(100_033, 200_005));
        unshift_inode(&mut inode, &mapping());
        assert_eq!(inode.metadata.xattrs[ACLS[0]], acl(33, 5));
        assert_eq!(inode.metadata.xattrs[&b"user.own"[..]], acl(100_033, 200_005));
    }

    #[test]
    fn capabilities_of_the_container_s_root_are_its_root_s_everywhere() {
        let revision_3 = |root: u32| {
            let mut capability = vec![1, 0, 0, 3];
            capability.extend([5; 16]);
            capability.extend(root.to_le_bytes());
            capability
        };
        let unshifted = |capability: &[u8]| {
            let mut capability = capability.to_vec();
            unshift_capability(&mut capability, &mapping().uids);
            capability
        };
        let mut revision_2 = vec![1, 0, 0, 2];
        revision_2.extend([5; 16]);
        assert_eq!(unshifted(&revision_3(100_000)), revision_2);
        assert_eq!(unshifted(&revision_3(300_001)), revision_3(2001));
        assert_eq!(unshifted(&revision_3(42)), revision_3(42));
        assert_eq!(unshifted(&revision_2), revision_2);
        assert_eq!(unshifted(b"short"), b"short");
    }
}
