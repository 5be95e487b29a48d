//! What lies where, which follows from the size alone.
//!
//! The first group begins with the superblock and the descriptors of all groups; there are no copies of these. Then
//! each group has its block bitmap, its inode bitmap and its table of inodes, and the rest is data.

use super::{BLOCK, SMALLEST};

/// Blocks of a group: as many as a block has bits.
pub(super) const GROUP_BLOCKS: u32 = 8 * BLOCK as u32;
/// Inodes in a block of the table.
pub(super) const INODES_PER_BLOCK: u32 = (BLOCK / super::inode::SIZE) as u32;
/// One inode for so many blocks, 16 KiB, as mke2fs has it.
const BLOCKS_PER_INODE: u32 = 4;
/// A last group with fewer blocks is not worth its bitmaps and table.
pub(super) const SMALLEST_GROUP: u32 = 1024;

/// The shape of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    blocks: u32,
    groups: u32,
    inodes_per_group: u32,
}

impl Geometry {
    /// The shape for a device of so many bytes. None if it has no room.
    pub(super) fn of(bytes: u64) -> Option<Self> {
        if bytes < SMALLEST {
            return None;
        }
        let blocks = u32::try_from(bytes / BLOCK as u64).unwrap_or(u32::MAX);
        let rest = blocks % GROUP_BLOCKS;
        let blocks = if blocks > GROUP_BLOCKS && rest < SMALLEST_GROUP { blocks - rest } else { blocks };
        let inodes = blocks.min(GROUP_BLOCKS) / BLOCKS_PER_INODE;
        let inodes_per_group = inodes.next_multiple_of(INODES_PER_BLOCK);
        Some(Self { blocks, groups: blocks.div_ceil(GROUP_BLOCKS), inodes_per_group })
    }

    /// Number of blocks.
    pub(super) const fn blocks(self) -> u32 {
        self.blocks
    }

    /// Number of groups.
    pub(super) const fn groups(self) -> u32 {
        self.groups
    }

    /// Number of inodes in each group.
    pub(super) const fn inodes_per_group(self) -> u32 {
        self.inodes_per_group
    }

    /// The first block of a group.
    pub(super) const fn start(self, group: u32) -> u32 {
        group * GROUP_BLOCKS
    }

    /// Number of blocks of a group.
    pub(super) fn group_blocks(self, group: u32) -> u32 {
        (self.blocks - self.start(group)).min(GROUP_BLOCKS)
    }

    /// Where a group has its block bitmap.
    pub(super) const fn block_bitmap(self, group: u32) -> u32 {
        self.start(group) + self.before_bitmaps(group)
    }

    /// Where it has its inode bitmap.
    pub(super) const fn inode_bitmap(self, group: u32) -> u32 {
        self.block_bitmap(group) + 1
    }

    /// Where its table of inodes begins.
    pub(super) const fn inode_table(self, group: u32) -> u32 {
        self.block_bitmap(group) + 2
    }

    /// The blocks of the root directory and of `lost+found`.
    pub(super) const fn directories(self) -> [u32; 2] {
        let first = self.inode_table(0) + self.table_blocks();
        [first, first + 1]
    }

    /// Number of blocks that a group has in use from its start on.
    pub(super) const fn used_blocks(self, group: u32) -> u32 {
        let directories = if group == 0 { self.directories().len() as u32 } else { 0 };
        self.before_bitmaps(group) + 2 + self.table_blocks() + directories
    }

    /// Groups whose block bitmap has to be written: of the first, which holds data, and of the last, which may be short.
    pub(super) fn groups_with_bitmap(self) -> impl Iterator<Item = u32> {
        let last = self.groups - 1;
        [0, last].into_iter().take(if last == 0 { 1 } else { 2 })
    }

    /// Superblock and descriptors.
    const fn before_bitmaps(self, group: u32) -> u32 {
        let descriptors = (self.groups as usize * super::group::DESCRIPTOR).div_ceil(BLOCK) as u32;
        if group == 0 { 1 + descriptors } else { 0 }
    }

    const fn table_blocks(self) -> u32 {
        self.inodes_per_group / INODES_PER_BLOCK
    }
}
