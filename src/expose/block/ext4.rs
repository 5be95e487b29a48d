//! What writable blocks depend on of the format of ext4.
//!
//! Format: `Documentation/filesystems/ext4` in the Linux source tree.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::store::unique::Unique;

/// Offset of the superblock in the file system, in bytes.
const SUPERBLOCK: usize = 1024;
/// Offset of `s_mtime` in the superblock: 32 bits, when it was last mounted writable.
const MOUNT_TIME: usize = 0x2c;
/// Offset of `s_mnt_count`: 16 bits, how often it was mounted writable.
const MOUNT_COUNT: usize = 0x34;
/// Offset of `s_magic`, 16 bits.
const MAGIC: usize = 0x38;
/// Offset of `s_feature_incompat`, 32 bits.
const INCOMPATIBLE_FEATURES: usize = 0x60;
/// Set while the journal may hold what the file system does not: since a mount until its proper end.
const RECOVER: u32 = 0x4;
/// Offset of `s_uuid`, 16 bytes.
const UUID: usize = 0x68;
/// Offset of `s_checksum`: 32 bits, CRC-32C of all before it.
const CHECKSUM: usize = 0x3fc;

/// Bytes from the start of the file system to the end of its superblock.
pub(super) const SUPERBLOCK_END: usize = SUPERBLOCK + CHECKSUM + 4;

/// Bytes that the attribute block of an inode holds: 4096 less its header and the mark at its end.
/// The room in the inode itself is left to attributes that the host adds, such as a security label.
const XATTR_ROOM: usize = 4096 - 32 - 4;
/// Bytes that an attribute takes besides its name and value, which are padded to four bytes each.
const XATTR_ENTRY: usize = 16;

/// Gives the file system whose first bytes these are, at least [`SUPERBLOCK_END`], a UUID of its own.
pub(super) fn set_uuid(first: &mut [u8], unique: Unique) {
    let Some(superblock) = first.get_mut(SUPERBLOCK..SUPERBLOCK_END) else { return };
    superblock[UUID..UUID + 16]
        .copy_from_slice(uuid::Builder::from_random_bytes(unique.to_bytes()).as_uuid().as_bytes());
    // ext4 keeps the CRC register as it stands; the crc32c crate inverts it at the end.
    let checksum = !crc32c::crc32c(&superblock[..CHECKSUM]);
    superblock[CHECKSUM..CHECKSUM + 4].copy_from_slice(&checksum.to_le_bytes());
}

/// Whether the file system in `file` was ever mounted writable. The kernel writes that down before
/// the mount returns. A file that holds no ext4 any more was written to as well.
pub(super) fn was_mounted(file: &File) -> io::Result<bool> {
    let mut fields = [0; MAGIC + 2];
    file.read_exact_at(&mut fields, SUPERBLOCK as u64)?;
    let is_ext4 = fields[MAGIC..] == 0xef53_u16.to_le_bytes();
    let time = &fields[MOUNT_TIME..MOUNT_TIME + 4];
    let count = &fields[MOUNT_COUNT..MOUNT_COUNT + 2];
    Ok(!is_ext4 || time.iter().chain(count).any(|byte| *byte != 0))
}

/// Whether the journal of the file system in `file` has to be replayed before it can be read.
///
/// # Errors
/// If the file cannot be read or is too short.
pub(super) fn needs_replay(file: &File) -> io::Result<bool> {
    let mut features = [0; 4];
    file.read_exact_at(&mut features, (SUPERBLOCK + INCOMPATIBLE_FEATURES) as u64)?;
    Ok(u32::from_le_bytes(features) & RECOVER != 0)
}

/// Takes the attributes out that do not fit into an inode besides those before them, and returns
/// the names of these. Without the feature `ea_inode`, which old kernels lack, one block is all.
pub(super) fn take_oversized(xattrs: &mut BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<Vec<u8>> {
    let mut room = XATTR_ROOM;
    let mut taken = Vec::new();
    xattrs.retain(|name, value| {
        let needed = XATTR_ENTRY + name.len().next_multiple_of(4) + value.len().next_multiple_of(4);
        let left = room.checked_sub(needed);
        match left {
            Some(left) => room = left,
            None => taken.push(name.clone()),
        }
        left.is_some()
    });
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(name: &str, bytes: usize) -> (Vec<u8>, Vec<u8>) {
        (name.as_bytes().to_vec(), vec![1; bytes])
    }

    #[test]
    fn what_does_not_fit_is_taken_out_and_what_follows_is_not() {
        let mut xattrs =
            BTreeMap::from([attribute("user.a", 2000), attribute("user.b", 2100), attribute("user.c", 2000)]);
        assert_eq!(take_oversized(&mut xattrs), [b"user.b".to_vec()]);
        assert_eq!(xattrs.len(), 2);
    }

    #[test]
    fn one_attribute_can_fill_the_block() {
        let largest = XATTR_ROOM - XATTR_ENTRY - "user.big".len();
        assert!(take_oversized(&mut BTreeMap::from([attribute("user.big", largest)])).is_empty());
        assert_eq!(take_oversized(&mut BTreeMap::from([attribute("user.big", largest + 1)])).len(), 1);
    }

    #[test]
    fn what_is_no_ext4_counts_as_written() {
        let file = tempfile::tempfile().unwrap();
        assert!(was_mounted(&file).is_err(), "too short");
        file.set_len(1 << 20).unwrap();
        assert!(was_mounted(&file).unwrap());
    }
}
