//! The one block of a directory. Layout: `struct ext4_dir_entry_2` and `ext4_dir_entry_tail` of Linux.

use super::checksum::Seed;
use super::fields::{put, put_u16, put_u32};
use super::{BLOCK, inode};

/// Size in bytes of what closes the block: an entry of no inode that holds the checksum.
const TAIL: usize = 12;
/// The kind of such an entry.
const TAIL_KIND: u8 = 0xde;
const DIRECTORY_KIND: u8 = 2;
/// Size of an entry in bytes without its name.
const HEAD: usize = 8;

/// The root directory's.
pub(super) fn root(seed: Seed) -> Vec<u8> {
    block(seed, inode::ROOT, &[(inode::ROOT, "."), (inode::ROOT, ".."), (inode::FIRST, "lost+found")])
}

/// That of `lost+found`.
pub(super) fn lost_and_found(seed: Seed) -> Vec<u8> {
    block(seed, inode::FIRST, &[(inode::FIRST, "."), (inode::ROOT, "..")])
}

/// A block with these directories, the last of which takes all that is left.
fn block(seed: Seed, owner: u32, entries: &[(u32, &str)]) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    let end = BLOCK - TAIL;
    let mut at = 0;
    for (index, (number, name)) in entries.iter().enumerate() {
        let is_last = index + 1 == entries.len();
        let length = if is_last { end - at } else { (HEAD + name.len()).next_multiple_of(4) };
        put_u32(&mut block, at, *number);
        put_u16(&mut block, at + 4, length as u16);
        put(&mut block, at + 6, &[name.len() as u8, DIRECTORY_KIND]);
        put(&mut block, at + HEAD, name.as_bytes());
        at += length;
    }
    let sum = seed.inode(owner).over(&[&block[..end]]);
    put_u16(&mut block, end + 4, TAIL as u16);
    put(&mut block, end + 7, &[TAIL_KIND]);
    put_u32(&mut block, end + 8, sum);
    block
}
