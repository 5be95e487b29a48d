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
