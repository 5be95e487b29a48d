//! Groups: their descriptors and bitmaps. Layout: `struct ext4_group_desc` of Linux, in its short form.

use super::checksum::Seed;
use super::fields::{put_u16, put_u32};
use super::geometry::{GROUP_BLOCKS, Geometry};
use super::{BLOCK, inode};

/// Size of a descriptor in bytes.
pub(super) const DESCRIPTOR: usize = 32;
/// Offset of the checksum in it, which is its last field.
const CHECKSUM: usize = 0x1e;

/// No inode of the group is in use, and its inode bitmap was never written.
const INODES_UNUSED: u16 = 1;
/// Nothing but its own metadata is in use, and its block bitmap was never written.
const BLOCKS_UNUSED: u16 = 2;

/// The descriptors of all groups, in whole blocks.
pub(super) fn descriptors(geometry: Geometry, seed: Seed) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        (0..geometry.groups()).flat_map(|group| descriptor(geometry, seed, group)).collect();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

fn descriptor(geometry: Geometry, seed: Seed, group: u32) -> [u8; DESCRIPTOR] {
    let mut bytes = [0; DESCRIPTOR];
    let inodes = geometry.inodes_per_group();
    let has_bitmap = geometry.groups_with_bitmap().any(|number| number == group);
    let (used_inodes, directories) = if group == 0 { (inode::USED, inode::DIRECTORIES) } else { (0, 0) };
    let mut flags = if group == 0 { 0 } else { INODES_UNUSED };
    if has_bitmap {
        put_u16(&mut bytes, 0x18, low(seed.over(&[&block_bitmap(geometry, group)])));
    } else {
        flags |= BLOCKS_UNUSED;
    }
    if group == 0 {
        let bitmap = inode_bitmap(geometry);
        put_u16(&mut bytes, 0x1a, low(seed.over(&[&bitmap[..inodes as usize / 8]])));
    }
    put_u32(&mut bytes, 0x00, geometry.block_bitmap(group));
    put_u32(&mut bytes, 0x04, geometry.inode_bitmap(group));
    put_u32(&mut bytes, 0x08, geometry.inode_table(group));
    for (at, number) in [
        (0x0c, geometry.group_blocks(group) - geometry.used_blocks(group)),
        (0x0e, inodes - used_inodes),
        (0x10, directories),
        (0x12, flags.into()),
        // Inodes at the end of the table that were never written.
        (0x1c, inodes - used_inodes),
    ] {
        put_u16(&mut bytes, at, low(number));
    }
    let sum = seed.over(&[&group.to_le_bytes(), &bytes]);
    put_u16(&mut bytes, CHECKSUM, low(sum));
    bytes
}

/// Which blocks of a group are in use; what lies past its end counts as that.
pub(super) fn block_bitmap(geometry: Geometry, group: u32) -> Vec<u8> {
    let (used, end) = (geometry.used_blocks(group), geometry.group_blocks(group));
    bitmap(|bit| bit < used || bit >= end)
}

/// Which inodes of the first group are in use.
pub(super) fn inode_bitmap(geometry: Geometry) -> Vec<u8> {
    bitmap(|bit| bit < inode::USED || bit >= geometry.inodes_per_group())
}

fn bitmap(is_used: impl Fn(u32) -> bool) -> Vec<u8> {
    let byte = |first: u32| (0..8).fold(0, |byte, bit| byte | u8::from(is_used(first + bit)) << bit);
    (0..GROUP_BLOCKS).step_by(8).map(byte).collect()
}

/// The lower half, which is all that short descriptors have. No number of a group is larger.
const fn low(number: u32) -> u16 {
    (number & 0xffff) as u16
}
