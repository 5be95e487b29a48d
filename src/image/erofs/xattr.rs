//! Extended attributes: names as name-space index and suffix, the pool of shared ones, and the
//! body that follows an inode.

use std::collections::BTreeMap;

use super::error::Problem;
use super::walk::Visit;

type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Name spaces of `enum EROFS_XATTR_INDEX_*`. An index stands for a prefix; an ACL has no suffix.
const PREFIXES: [(&[u8], u8); 3] = [(b"user.", 1), (b"trusted.", 4), (b"security.", 6)];
const ACLS: [(&[u8], u8); 2] = [(b"system.posix_acl_access", 2), (b"system.posix_acl_default", 3)];

/// Longest full name in bytes, the kernel's XATTR_NAME_MAX.
const NAME_MAX: usize = 255;
/// `struct erofs_xattr_ibody_header`.
const HEADER_SIZE: usize = 12;
/// `struct erofs_xattr_entry` without name and value.
const ENTRY_HEADER_SIZE: usize = 4;
/// Unit of `i_xattr_icount`, of entries and of shared ids.
const UNIT: usize = 4;
/// `h_shared_count` is one byte.
const SHARED_MAX: usize = u8::MAX as usize;
/// From this size on an entry is shared even if only one inode has it, so that inodes stay dense.
const LARGE_ENTRY: usize = 1024;
/// Largest body that `i_xattr_icount`, 16 bits, can express.
pub(super) const BODY_MAX: u64 = (HEADER_SIZE + UNIT * (u16::MAX as usize - 1)) as u64;

/// Refuses an attribute that EROFS cannot hold.
pub(super) fn check(name: &[u8], value: &[u8]) -> Result<(), Problem> {
    let shown = || String::from_utf8_lossy(name).into_owned();
    if name.len() > NAME_MAX || name.contains(&0) || split(name).is_none() {
        return Err(Problem::XattrName(shown()));
    }
    if value.len() > usize::from(u16::MAX) {
        return Err(Problem::XattrValue { name: shown(), size: value.len() });
    }
    Ok(())
}

/// Name-space index and suffix of a full name.
fn split(name: &[u8]) -> Option<(u8, &[u8])> {
    if let Some(&(_, index)) = ACLS.iter().find(|(acl, _)| *acl == name) {
        return Some((index, b""));
    }
    PREFIXES
        .iter()
        .find_map(|&(prefix, index)| name.strip_prefix(prefix).map(|suffix| (index, suffix)))
        .filter(|(_, suffix)| !suffix.is_empty())
}

/// One attribute as it is stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry<'t> {
    name: &'t [u8],
    value: &'t [u8],
}

impl Entry<'_> {
    fn size(self) -> usize {
        let suffix = split(self.name).map_or(0, |(_, suffix)| suffix.len());
        (ENTRY_HEADER_SIZE + suffix + self.value.len()).next_multiple_of(UNIT)
    }

    /// Appends the entry. Names and values were found to fit by [`check`].
    fn encode(self, out: &mut Vec<u8>) {
        let start = out.len();
        let (index, suffix) = split(self.name).unwrap_or_default();
        out.extend_from_slice(&[suffix.len() as u8, index]);
        out.extend_from_slice(&(self.value.len() as u16).to_le_bytes());
        out.extend_from_slice(suffix);
        out.extend_from_slice(self.value);
        out.resize(start + self.size(), 0);
    }
}

/// The attributes that several inodes have in common, or that are large: stored once, by name and
/// value in byte order.
pub(super) struct SharedPool<'t> {
    /// Id of each entry: its offset in the pool in units of 4 bytes.
    ids: BTreeMap<Entry<'t>, u32>,
    size: u64,
}

impl<'t> SharedPool<'t> {
    /// Picks what is shared. `None` if the pool is too large for 32-bit ids.
    pub(super) fn of(visits: &[Visit<'t>]) -> Option<Self> {
        let mut uses: BTreeMap<Entry<'t>, usize> = BTreeMap::new();
        for visit in visits {
            for entry in list(&visit.inode.metadata.xattrs) {
                *uses.entry(entry).or_default() += 1;
            }
        }
        let mut pool = Self { ids: BTreeMap::new(), size: 0 };
        for (entry, uses) in uses {
            if is_shared(entry.size(), uses) {
                let id = u32::try_from(pool.size / UNIT as u64).ok()?;
                pool.ids.insert(entry, id);
                pool.size += entry.size() as u64;
            }
        }
        Some(pool)
    }

    /// Size in bytes of all entries.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The entries, each as the bytes that `encode` left in `scratch`.
    pub(super) fn write<E>(
        &self,
        scratch: &mut Vec<u8>,
        mut write: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for entry in self.ids.keys() {
            scratch.clear();
            entry.encode(scratch);
            write(scratch)?;
        }
        Ok(())
    }

    /// The body that an inode with these attributes gets.
    pub(super) fn body(&self, xattrs: &'t Xattrs) -> Body<'t> {
        let mut body = Body { shared: Vec::new(), inline: Vec::new() };
        for entry in list(xattrs) {
            match self.ids.get(&entry) {
                Some(&id) if body.shared.len() < SHARED_MAX => body.shared.push(id),
                _ => body.inline.push(entry),
            }
        }
        body
    }
}

/// Whether sharing an entry that `uses` inodes have takes fewer bytes than repeating it.
fn is_shared(size: usize, uses: usize) -> bool {
    size >= LARGE_ENTRY || size * uses > size + UNIT * uses
}

fn list(xattrs: &Xattrs) -> impl Iterator<Item = Entry<'_>> {
    xattrs.iter().map(|(name, value)| Entry { name, value })
}

/// The xattr body of one inode: `struct erofs_xattr_ibody_header`, ids of shared entries, entries.
pub(super) struct Body<'t> {
    shared: Vec<u32>,
    inline: Vec<Entry<'t>>,
}

impl Body<'_> {
    /// Size in bytes: a multiple of 4, and 0 for an inode without attributes.
    pub(super) fn size(&self) -> u64 {
        if self.shared.is_empty() && self.inline.is_empty() {
            return 0;
        }
        let entries: usize = self.inline.iter().map(|entry| entry.size()).sum();
        (HEADER_SIZE + UNIT * self.shared.len() + entries) as u64
    }

    /// Appends the body. Its name filter, 0, says nothing of which names are absent.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        if self.size() == 0 {
            return;
        }
        let mut header = [0; HEADER_SIZE];
        header[4] = self.shared.len() as u8;
        out.extend_from_slice(&header);
        for id in &self.shared {
            out.extend_from_slice(&id.to_le_bytes());
        }
        for entry in &self.inline {
            entry.encode(out);
        }
    }
}

/// `i_xattr_icount` of an inode whose body has this size, at most [`BODY_MAX`].
pub(super) fn icount(body_size: u64) -> u16 {
    match body_size {
        0 => 0,
        size => ((size - HEADER_SIZE as u64) / UNIT as u64 + 1) as u16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tree::{Inode, Metadata, Node, Tree};

    fn inode(xattrs: &[(&str, &[u8])]) -> Inode {
        let xattrs = xattrs.iter().map(|&(name, value)| (name.into(), value.into())).collect();
        Inode { metadata: Metadata { xattrs, ..Metadata::default() }, node: Node::Fifo }
    }

    fn pool(inodes: &[Inode]) -> SharedPool<'_> {
        let visits: Vec<_> =
            inodes.iter().map(|inode| Visit { id: Tree::ROOT, inode, parent: 0, links: 1 }).collect();
        SharedPool::of(&visits).unwrap()
    }

    /// The body of an inode with these xattrs, the pool being made of `inodes`.
    fn body(inodes: &[Inode], of: usize) -> Vec<u8> {
        let pool = pool(inodes);
        let body = pool.body(&inodes[of].metadata.xattrs);
        let mut out = Vec::new();
        body.encode(&mut out);
        assert_eq!(out.len() as u64, body.size());
        out
    }

    #[test]
    fn names_are_split_at_the_name_space() {
        assert_eq!(split(b"user.a.b"), Some((1, b"a.b".as_slice())));
        assert_eq!(split(b"system.posix_acl_access"), Some((2, b"".as_slice())));
        assert_eq!(split(b"system.posix_acl_default"), Some((3, b"".as_slice())));
        assert_eq!(split(b"trusted.overlay.opaque"), Some((4, b"overlay.opaque".as_slice())));
        assert_eq!(split(b"security.capability"), Some((6, b"capability".as_slice())));
        for name in ["security.", "system.posix_acl_accessx", "lustre.lov", "user", ""] {
            assert_eq!(split(name.as_bytes()), None, "{name}");
        }
    }
    #[test]
    fn an_inode_without_attributes_has_no_body() {
        assert_eq!(body(&[inode(&[])], 0), b"");
        assert_eq!(icount(0), 0);
    }

    #[test]
    fn attributes_of_one_inode_are_inline_in_byte_order() {
        let inodes =
            [inode(&[("user.b", b"12345"), ("security.x", b""), ("system.posix_acl_access", b"acl")])];
        let expected = [
            &[0; 12][..],
            &[1, 6, 0, 0, b'x', 0, 0, 0],
            &[0, 2, 3, 0, b'a', b'c', b'l', 0],
            &[1, 1, 5, 0, b'b', b'1', b'2', b'3', b'4', b'5', 0, 0],
        ]
        .concat();
        assert_eq!(body(&inodes, 0), expected);
        assert_eq!(icount(expected.len() as u64), 8);
    }

    #[test]
    fn what_inodes_have_in_common_is_shared_where_that_saves_space() {
        let label: (&str, &[u8]) = ("security.selinux", b"system_u:object_r:etc_t:s0");
        // Two of 8 bytes are no shorter as one of 8 bytes and two ids; three are.
        let inodes = [
            inode(&[label, ("user.a", b"1"), ("user.b", b"1")]),
            inode(&[label, ("user.a", b"1"), ("user.b", b"1")]),
            inode(&[("user.b", b"1"), ("user.c", b"")]),
        ];
        let pool = pool(&inodes);
        let shared: Vec<_> = pool.ids.iter().map(|(entry, &id)| (entry.name, id)).collect();
        assert_eq!(shared, [(b"security.selinux".as_slice(), 0), (b"user.b", 10)]);
        assert_eq!(pool.size(), 48);
        let expected = [
            &[0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0][..],
            &[0, 0, 0, 0, 10, 0, 0, 0],
            &[1, 1, 1, 0, b'a', b'1', 0, 0],
        ]
        .concat();
        assert_eq!(body(&inodes, 0), expected);
    }

    #[test]
    fn large_values_leave_the_inode() {
        let inodes = [inode(&[("user.large", &[7; 60 << 10]), ("user.small", &[7; 900])])];
        assert_eq!(pool(&inodes).size(), 4 + 5 + 3 + (60 << 10));
        assert_eq!(body(&inodes, 0)[..20], [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 1, 0x84, 3]);
    }

    #[test]
    fn an_inode_names_at_most_255_shared_attributes() {
        let names: Vec<String> = (0..300).map(|i| format!("user.{i:03}")).collect();
        let xattrs: Vec<(&str, &[u8])> =
            names.iter().map(|name| (name.as_str(), b"shared".as_slice())).collect();
        let inodes = [inode(&xattrs), inode(&xattrs)];
        let body = body(&inodes, 0);
        assert_eq!(body[4], 255);
        assert_eq!(body.len(), 12 + 255 * 4 + 45 * 16);
        assert_eq!(body[12 + 255 * 4 + 4..][..9], *b"255shared");
    }
}
