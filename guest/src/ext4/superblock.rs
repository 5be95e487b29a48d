//! The superblock, in the first block. Layout: `struct ext4_super_block` of Linux.

use super::fields::{put, put_u16, put_u32};
use super::geometry::{GROUP_BLOCKS, Geometry};
use super::{BLOCK, Identity, checksum, inode};

/// Offset in the file system, in bytes.
const START: usize = 1024;
/// Offset of the checksum in it, which is of all before.
const CHECKSUM: usize = 0x3fc;

const MAGIC: u16 = 0xef53;
/// Unmounted properly.
const CLEAN: u16 = 1;
/// When an error is found, nothing is written any more.
const READ_ONLY_ON_ERRORS: u16 = 2;
/// Half MD4.
const NAME_HASH: u8 = 1;
const SIGNED_NAME_HASH: u32 = 1;
const CRC32C: u8 = 1;
/// Bytes that inodes have beyond the 128 of old.
const EXTRA_INODE_BYTES: u16 = 32;

/// `ext_attr`, `dir_index` and `sparse_super2`, the last without any backup of superblock and descriptors.
const COMPATIBLE: u32 = 0x8 | 0x20 | 0x200;
/// `filetype` and `extents`.
const INCOMPATIBLE: u32 = 0x2 | 0x40;
/// `large_file`, `huge_file`, `dir_nlink`, `extra_isize` and `metadata_csum`. All are in Linux since 3.6, and
/// `sparse_super2` needs nothing of it.
const READ_ONLY_COMPATIBLE: u32 = 0x2 | 0x8 | 0x20 | 0x40 | 0x400;

/// The first block.
pub(super) fn encode(geometry: Geometry, identity: Identity) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    let (_, superblock) = block.split_at_mut(START);
    let used: u32 = (0..geometry.groups()).map(|group| geometry.used_blocks(group)).sum();
    let inodes = geometry.groups() * geometry.inodes_per_group();
    for (at, number) in [
        (0x00, inodes),
        (0x04, geometry.blocks()),
        (0x0c, geometry.blocks() - used),
        (0x10, inodes - inode::USED),
        // Blocks and clusters of 2^(10 + 2) bytes.
        (0x18, 2),
        (0x1c, 2),
        (0x20, GROUP_BLOCKS),
        (0x24, GROUP_BLOCKS),
        (0x28, geometry.inodes_per_group()),
        // Revision 1, which has what follows.
        (0x4c, 1),
        (0x54, inode::FIRST),
        (0x5c, COMPATIBLE),
        (0x60, INCOMPATIBLE),
        (0x64, READ_ONLY_COMPATIBLE),
        (0x160, SIGNED_NAME_HASH),
    ] {
        put_u32(superblock, at, number);
    }
    for (at, number) in [
        // Never to be checked for the number of mounts.
        (0x36, u16::MAX),
        (0x38, MAGIC),
        (0x3a, CLEAN),
        (0x3c, READ_ONLY_ON_ERRORS),
        (0x58, inode::SIZE as u16),
        (0x15c, EXTRA_INODE_BYTES),
        (0x15e, EXTRA_INODE_BYTES),
    ] {
        put_u16(superblock, at, number);
    }
    put(superblock, 0x68, &identity.uuid);
    put(superblock, 0xec, &identity.hash_seed);
    put(superblock, 0xfc, &[NAME_HASH]);
    put(superblock, 0x175, &[CRC32C]);
    let sum = checksum::raw(&superblock[..CHECKSUM]);
    put_u32(superblock, CHECKSUM, sum);
    block
}
