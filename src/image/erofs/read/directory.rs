//! One block of a directory: an array of `struct erofs_dirent`, 12 bytes each, and names behind it.

use super::error::Damage;
use super::source::Fields;

const ENTRY_SIZE: usize = 12;
/// Longest name in bytes, Linux's NAME_MAX.
const NAME_MAX: usize = 255;

/// An entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<'b> {
    pub(super) name: &'b [u8],
    /// Number of the inode that it names.
    pub(super) nid: u64,
    /// The inode's type, as the entry says.
    pub(super) kind: u8,
}

/// The entries of a block, which the end of the directory may have cut short.
pub(super) fn entries(block: &[u8]) -> impl Iterator<Item = Result<Entry<'_>, Damage>> {
    let count = count(block);
    let whole = count.unwrap_or(0);
    let entries = (0..whole).map(move |index| entry(block, index, whole));
    let malformed = count.is_none().then_some(Err(Damage::Entries));
    malformed.into_iter().chain(entries)
}

/// How many entries there are: the first name starts where they end.
fn count(block: &[u8]) -> Option<usize> {
    let end = name_offset(block, 0)?;
    let fits = end >= ENTRY_SIZE && end % ENTRY_SIZE == 0 && end <= block.len();
    fits.then_some(end / ENTRY_SIZE)
}

fn name_offset(block: &[u8], index: usize) -> Option<usize> {
    let field = block.get(index * ENTRY_SIZE + 8..)?.first_chunk()?;
    Some(usize::from(u16::from_le_bytes(*field)))
}

fn entry(block: &[u8], index: usize, count: usize) -> Result<Entry<'_>, Damage> {
    let record: Option<&[u8; ENTRY_SIZE]> =
        block.get(index * ENTRY_SIZE..).and_then(|bytes| bytes.first_chunk());
    let record = record.ok_or(Damage::Entries)?;
    let (nid, kind) = (record.u64_at(0), record[10]);
    let start = name_offset(block, index).ok_or(Damage::Entries)?;
    let is_last = index + 1 == count;
    let end = if is_last { Some(block.len()) } else { name_offset(block, index + 1) };
    let name = end.and_then(|end| block.get(start..end)).ok_or(Damage::Entries)?;
    // Zeros fill a block up behind its last name.
    let name = if is_last { name.split(|&byte| byte == 0).next().unwrap_or_default() } else { name };
    let is_name = (1..=NAME_MAX).contains(&name.len()) && !name.iter().any(|byte| b"\0/".contains(byte));
    if is_name { Ok(Entry { name, nid, kind }) } else { Err(Damage::Name(name.len())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(entries: &[(u64, u16)], names: &[u8]) -> Vec<u8> {
        let mut block = Vec::new();
        for (nid, offset) in entries {
            block.extend_from_slice(&nid.to_le_bytes());
            block.extend_from_slice(&offset.to_le_bytes());
            block.extend_from_slice(&[1, 0]);
        }
        block.extend_from_slice(names);
        block
    }

    fn read(block: &[u8]) -> Result<Vec<(Vec<u8>, u64)>, Damage> {
        entries(block).map(|entry| entry.map(|entry| (entry.name.to_vec(), entry.nid))).collect()
    }

    #[test]
    fn names_end_where_the_next_begins_or_at_a_zero() {
        let block = block(&[(1, 48), (1, 49), (7, 51), (1 << 40, 54)], b"...binetc\0\0");
        let names = [(&b"."[..], 1), (b"..", 1), (b"bin", 7), (b"etc", 1 << 40)];
        assert_eq!(read(&block), Ok(names.map(|(name, nid)| (name.to_vec(), nid)).to_vec()));
    }

    #[test]
    fn contradictions_are_found() {
        for (entries, names, damage) in [
            (&[][..], &b""[..], Damage::Entries),
            (&[(1, 0)], b"a", Damage::Entries),
            (&[(1, 13)], b"a", Damage::Entries),
            (&[(1, 24)], b"a", Damage::Entries),
            (&[(1, 24), (1, 23)], b"ab", Damage::Entries),
            (&[(1, 24), (1, 99)], b"ab", Damage::Entries),
            (&[(1, 24), (1, 24)], b"ab", Damage::Name(0)),
            (&[(1, 12)], b"a/b", Damage::Name(3)),
            (&[(1, 12)], &[b'n'; 256], Damage::Name(256)),
        ] {
            assert_eq!(read(&block(entries, names)), Err(damage), "{entries:?}");
        }
    }
}
