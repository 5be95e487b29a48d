//! Extended attributes: those that follow an inode, those that it shares, and prefixes of names.

use std::collections::BTreeMap;

use super::error::{Damage, Error, Unsupported};
use super::geometry::Geometry;
use super::inode::Record;
use super::limits::{Budget, XATTR_COST};
use super::source::{Fields, ReadAt, Window};

/// `struct erofs_xattr_ibody_header`.
const HEADER_SIZE: usize = 12;
/// `struct erofs_xattr_entry` without name and value.
const ENTRY_SIZE: usize = 4;
/// Unit of entries, of their ids and of the prefix table.
const UNIT: usize = 4;
/// Longest name in bytes, the kernel's XATTR_NAME_MAX.
const NAME_MAX: usize = 255;
/// Bit of a name index that refers to the image's own prefixes (`EROFS_XATTR_LONG_PREFIX`).
const LONG_PREFIX: u8 = 0x80;

/// The start of a name, of which an attribute has the rest.
pub(super) type Prefix = Vec<u8>;

/// The attributes of an inode by full name.
pub(super) fn read<S: ReadAt>(
    window: &mut Window<'_, S>,
    shared: &mut Window<'_, S>,
    geometry: &Geometry,
    record: &Record,
    budget: &mut Budget,
) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Error> {
    let mut list = List { geometry, offset: record.xattrs, xattrs: BTreeMap::new(), budget };
    if record.xattr_icount == 0 {
        return Ok(list.xattrs);
    }
    // At most 262148 bytes, as the count has 16 bits.
    let body = window.bytes(record.xattrs, record.xattr_size() as usize)?;
    let ids = HEADER_SIZE + UNIT * usize::from(body[4]);
    let damaged = Error::damaged_at(record.xattrs, Damage::Xattrs);
    let (head, mut entries) = body.split_at_checked(ids).ok_or(damaged)?;
    for id in head[HEADER_SIZE..].as_chunks::<UNIT>().0 {
        let offset = geometry.shared_xattrs + u64::from(u32::from_le_bytes(*id)) * UNIT as u64;
        let size = Entry(shared.array(offset)?).size();
        let entry = shared.bytes(offset, size)?;
        list.add(&entry)?;
    }
    while !entries.is_empty() {
        entries = list.add(entries)?;
    }
    Ok(list.xattrs)
}

/// The first bytes of an entry.
struct Entry([u8; ENTRY_SIZE]);

impl Entry {
    fn name_index(&self) -> u8 {
        self.0[1]
    }

    /// Bytes of the name behind its prefix.
    fn name_length(&self) -> usize {
        usize::from(self.0[0])
    }

    /// Bytes of header, name and value, without what fills them up.
    fn size(&self) -> usize {
        ENTRY_SIZE + self.name_length() + usize::from(self.0.u16_at(2))
    }
}

/// Attributes that are being collected.
struct List<'g, 'b> {
    geometry: &'g Geometry,
    /// Where the inode has its attributes, for errors.
    offset: u64,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    budget: &'b mut Budget,
}

impl List<'_, '_> {
    /// Takes the entry that `bytes` begin with, and returns what follows it.
    fn add<'e>(&mut self, bytes: &'e [u8]) -> Result<&'e [u8], Error> {
        let damaged = || Error::damaged_at(self.offset, Damage::Xattrs);
        let entry = Entry(*bytes.first_chunk().ok_or_else(damaged)?);
        let content = bytes.get(ENTRY_SIZE..entry.size()).ok_or_else(damaged)?;
        let (suffix, value) = content.split_at(entry.name_length());
        let name = [prefix(entry.name_index(), &self.geometry.prefixes)?, suffix].concat();
        if name.len() > NAME_MAX || name.contains(&0) {
            return Err(damaged());
        }
        self.budget.bytes(XATTR_COST + (name.len() + value.len()) as u64)?;
        if self.xattrs.insert(name, value.to_vec()).is_some() {
            return Err(Error::damaged_at(self.offset, Damage::DuplicateXattr));
        }
        // Only the last entry may lack what fills it up: a shared one is read without.
        Ok(bytes.get(entry.size().next_multiple_of(UNIT)..).unwrap_or_default())
    }
}

fn prefix(index: u8, prefixes: &[Prefix]) -> Result<&[u8], Unsupported> {
    if index & LONG_PREFIX != 0 {
        let prefix = prefixes.get(usize::from(index & !LONG_PREFIX));
        return prefix.map(Vec::as_slice).ok_or(Unsupported::XattrNamespace(index));
    }
    name_space(index)
}

/// The name spaces of `enum EROFS_XATTR_INDEX_*`.
fn name_space(index: u8) -> Result<&'static [u8], Unsupported> {
    match index {
        1 => Ok(b"user."),
        2 => Ok(b"system.posix_acl_access"),
        3 => Ok(b"system.posix_acl_default"),
        4 => Ok(b"trusted."),
        5 => Ok(b"lustre."),
        6 => Ok(b"security."),
        _ => Err(Unsupported::XattrNamespace(index)),
    }
}

/// Reads the image's own prefixes: for each a length of two bytes, the index of a name space, and what
/// follows that (`struct erofs_xattr_long_prefix`), filled up to 4 bytes.
pub(super) fn read_prefixes<S: ReadAt>(
    window: &mut Window<'_, S>,
    start: u64,
    count: u8,
) -> Result<Vec<Prefix>, Error> {
    let mut offset = start;
    let mut prefixes = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let length = u16::from_le_bytes(window.array(offset)?);
        let record = window.bytes(offset + 2, usize::from(length))?;
        match record.split_first() {
            Some((&index, infix)) if infix.len() <= NAME_MAX => {
                prefixes.push([name_space(index)?, infix].concat());
            }
            _ => return Err(Error::damaged_at(offset, Damage::XattrPrefixes)),
        }
        offset = (offset + 2 + u64::from(length)).next_multiple_of(UNIT as u64);
    }
    Ok(prefixes)
}
