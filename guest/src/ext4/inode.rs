//! Inodes: of the root directory and of `lost+found`. Layout: `struct ext4_inode` of Linux.

use super::BLOCK;
use super::checksum::Seed;
use super::fields::{put_u16, put_u32};
use super::geometry::Geometry;

/// Size in bytes.
pub(super) const SIZE: usize = 256;
/// The root directory.
pub(super) const ROOT: u32 = 2;
/// The first that is not reserved: `lost+found`, where e2fsck expects it.
pub(super) const FIRST: u32 = 11;
/// How many are in use, the reserved ones among them.
pub(super) const USED: u32 = FIRST;
/// How many of them are directories.
pub(super) const DIRECTORIES: u32 = 2;

const DIRECTORY: u16 = 0o040_000;
/// The block's place is in an extent.
const EXTENTS: u32 = 0x8_0000;
const EXTENT_MAGIC: u16 = 0xf30a;
/// How many extents an inode has room for.
const EXTENTS_IN_INODE: u16 = 4;
/// Bytes in use beyond the 128 of old.
const EXTRA: u16 = 32;
/// Offsets of the halves of the checksum.
const CHECKSUM: [usize; 2] = [0x7c, 0x82];

/// The first block of the first group's table. The rest is marked as never written.
pub(super) fn table(geometry: Geometry, seed: Seed) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    let [root, lost_and_found] = geometry.directories();
    for (number, mode, links, data) in [(ROOT, 0o755, 3, root), (FIRST, 0o700, 2, lost_and_found)] {
        let start = (number as usize - 1) * SIZE;
        block[start..start + SIZE].copy_from_slice(&directory(seed.inode(number), mode, links, data));
    }
    block
}

/// A directory of root's that has one block.
fn directory(seed: Seed, mode: u16, links: u16, data: u32) -> [u8; SIZE] {
    let mut inode = [0; SIZE];
    put_u16(&mut inode, 0x00, DIRECTORY | mode);
    put_u32(&mut inode, 0x04, BLOCK as u32);
    put_u16(&mut inode, 0x1a, links);
    // In units of 512 bytes.
    put_u32(&mut inode, 0x1c, (BLOCK / 512) as u32);
    put_u32(&mut inode, 0x20, EXTENTS);
    put_u16(&mut inode, 0x28, EXTENT_MAGIC);
    put_u16(&mut inode, 0x2a, 1);
    put_u16(&mut inode, 0x2c, EXTENTS_IN_INODE);
    // One block long, at this place.
    put_u16(&mut inode, 0x38, 1);
    put_u32(&mut inode, 0x3c, data);
    put_u16(&mut inode, 0x80, EXTRA);
    let sum = seed.over(&[&inode]).to_le_bytes();
    let ([low, high], [first, second]) = (CHECKSUM, [[sum[0], sum[1]], [sum[2], sum[3]]]);
    inode[low..low + 2].copy_from_slice(&first);
    inode[high..high + 2].copy_from_slice(&second);
    inode
}
