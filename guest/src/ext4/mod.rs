//! A new, empty ext4 file system of any size, written without any other program: what a guest needs to write to a
//! device that holds nothing it may trust.
//!
//! It has no journal, because nothing of it is used after the guest ends. What is not written may hold anything: groups
//! and inodes that are not used yet are marked as such, so nobody reads them. All metadata has checksums; on a device
//! that a host can change, whatever it changes blindly shows as an error.
//!
//! Format: `Documentation/filesystems/ext4` in the Linux source tree.
//!
//! * `geometry`: what lies where. * `superblock`, `group`, `inode`, `directory`: the structures.
//! * `checksum`: their checksums. * `fields`: numbers in bytes.

mod checksum;
mod directory;
mod fields;
mod geometry;
mod group;
mod inode;
mod superblock;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use checksum::Seed;
use geometry::Geometry;

use crate::random;

/// Size of a block in bytes.
const BLOCK: usize = 4096;

/// Size in bytes of the smallest device that [`write`] makes a file system on.
pub const SMALLEST: u64 = 1 << 20;

/// What tells a file system from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its UUID, which checksums begin with.
    pub uuid: [u8; 16],
    /// What the hashes of names begin with.
    pub hash_seed: [u8; 16],
}

impl Identity {
    /// One that no other file system has.
    ///
    /// # Errors
    /// If the kernel has no random numbers.
    pub fn random() -> io::Result<Self> {
        let mut identity = Self { uuid: [0; 16], hash_seed: [0; 16] };
        random::fill(&mut identity.uuid)?;
        random::fill(&mut identity.hash_seed)?;
        Ok(identity)
    }
}

/// Makes a file system on a device of `bytes` bytes. Its root directory is root's, has the mode 0755 and holds
/// `lost+found`. More than 2^32 - 1 blocks of a device are not used.
///
/// # Errors
/// If writing fails, or for less than [`SMALLEST`] bytes.
pub fn write(device: &File, bytes: u64, identity: Identity) -> io::Result<()> {
    let geometry = Geometry::of(bytes).ok_or(io::ErrorKind::StorageFull)?;
    for (block, content) in blocks(geometry, identity) {
        device.write_all_at(&content, u64::from(block) * BLOCK as u64)?;
    }
    Ok(())
}

/// Everything that has to be there, by the number of the first block.
fn blocks(geometry: Geometry, identity: Identity) -> Vec<(u32, Vec<u8>)> {
    let seed = Seed::of(&identity.uuid);
    let [root, lost_and_found] = geometry.directories();
    let mut blocks = vec![
        (0, superblock::encode(geometry, identity)),
        (1, group::descriptors(geometry, seed)),
        (geometry.inode_bitmap(0), group::inode_bitmap(geometry)),
        (geometry.inode_table(0), inode::table(geometry, seed)),
        (root, directory::root(seed)),
        (lost_and_found, directory::lost_and_found(seed)),
    ];
    // The kernel works the other ones out.
    for number in geometry.groups_with_bitmap() {
        blocks.push((geometry.block_bitmap(number), group::block_bitmap(geometry, number)));
    }
    blocks
}

#[cfg(test)]
mod tests;
