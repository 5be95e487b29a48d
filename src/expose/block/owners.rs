//! The owners of the directories in a writable block, set without mkfs.ext4.
//!
//! Each pod with a user namespace has host identifiers of its own, so a template for each owner
//! would mean mkfs.ext4 for each pod. Two inodes and their checksums are all that differs.
//!
//! Format: `Documentation/filesystems/ext4` in the Linux source tree (super, group_descr, inodes,
//! ifork, directory, checksums). Only what [`super`] asks mkfs.ext4 for is understood: 4096-byte
//! blocks, extents, `metadata_csum_seed`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::BLOCK_SIZE;
use super::overlay::Owner;

const SUPERBLOCK: u64 = 1024;
/// Offsets in the superblock: `s_inode_size`, 16 bits, and `s_checksum_seed`, 32 bits.
const INODE_SIZE: usize = 0x58;
const CHECKSUM_SEED: usize = 0x270;
/// Offset of `bg_inode_table_lo`, 32 bits, in the first group descriptor, which is in block 1.
const INODE_TABLE: usize = 0x8;

/// The root directory's inode.
const ROOT: u32 = 2;
/// Size of an inode with what we change of it, in bytes.
const INODE: usize = 256;
/// Offsets in an inode. Owners are split: the low 16 bits are where they were in ext2.
const UID: usize = 0x2;
const GID: usize = 0x18;
const BLOCKS: usize = 0x28;
const GENERATION: usize = 0x64;
const UID_HIGH: usize = 0x78;
const GID_HIGH: usize = 0x7a;
const CHECKSUM: usize = 0x7c;
const CHECKSUM_HIGH: usize = 0x82;

/// Number that begins a tree of extents.
const EXTENT_MAGIC: u16 = 0xf30a;

/// An inode of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    number: u32,
    /// Where it is in the file, in bytes. It lies in one block.
    pub(super) offset: u64,
    seed: u32,
}

/// Where the inodes of these directories are, which are in the root directory of the file system.
pub(super) fn find<const N: usize>(file: &File, names: [&str; N]) -> io::Result<[Place; N]> {
    let superblock: [u8; 1024] = read(file, SUPERBLOCK)?;
    let descriptor: [u8; 64] = read(file, BLOCK_SIZE)?;
    if u16_at(&superblock, INODE_SIZE) as usize != INODE {
        return Err(unknown("inodes of another size"));
    }
    let table = u64::from(u32_at(&descriptor, INODE_TABLE)) * BLOCK_SIZE;
    let seed = u32_at(&superblock, CHECKSUM_SEED);
    let place = |number: u32| {
        let offset = table + u64::from(number.saturating_sub(1)) * INODE as u64;
        Place { number, offset, seed }
    };
    let root: [u8; INODE] = read(file, place(ROOT).offset)?;
    let directory: [u8; BLOCK_SIZE as usize] = read(file, first_block(&root)? * BLOCK_SIZE)?;
    let mut places = [place(ROOT); N];
    for (found, name) in places.iter_mut().zip(names) {
        *found =
            entry(&directory, name).map(place).ok_or_else(|| unknown("a directory without its entries"))?;
    }
    Ok(places)
}

/// Gives the inode at the start of `bytes` to `owner`.
pub(super) fn give(bytes: &mut [u8], place: Place, owner: Owner) {
    let Some(inode) = bytes.first_chunk_mut::<INODE>() else { return };
    for (id, low, high) in [(owner.uid, UID, UID_HIGH), (owner.gid, GID, GID_HIGH)] {
        let [a, b, c, d] = id.to_le_bytes();
        inode[low..low + 2].copy_from_slice(&[a, b]);
        inode[high..high + 2].copy_from_slice(&[c, d]);
    }
    inode[CHECKSUM..CHECKSUM + 2].fill(0);
    inode[CHECKSUM_HIGH..CHECKSUM_HIGH + 2].fill(0);
    let generation = u32_at(inode, GENERATION).to_le_bytes();
    let parts: [&[u8]; 3] = [&place.number.to_le_bytes(), &generation, inode];
    // ext4 keeps the CRC register as it stands; the crc32c crate inverts it at both ends.
    let checksum = !parts.iter().fold(!place.seed, |crc, part| crc32c::crc32c_append(crc, part));
    let [a, b, c, d] = checksum.to_le_bytes();
    inode[CHECKSUM..CHECKSUM + 2].copy_from_slice(&[a, b]);
    inode[CHECKSUM_HIGH..CHECKSUM_HIGH + 2].copy_from_slice(&[c, d]);
}

/// The first block of a directory whose tree of extents is in the inode.
fn first_block(inode: &[u8; INODE]) -> io::Result<u64> {
    let (magic, depth) = (u16_at(inode, BLOCKS), u16_at(inode, BLOCKS + 6));
    if magic != EXTENT_MAGIC || depth != 0 {
        return Err(unknown("a root directory without extents of its own"));
    }
    // The header takes 12 bytes; in an extent, the start's high half comes before its low one.
    let (high, low) = (u16_at(inode, BLOCKS + 12 + 6), u32_at(inode, BLOCKS + 12 + 8));
    Ok(u64::from(high) << 32 | u64::from(low))
}

/// The inode number of `name` in a block of directory entries.
fn entry(block: &[u8], name: &str) -> Option<u32> {
    let mut rest = block;
    loop {
        let (header, _) = rest.split_at_checked(8)?;
        let length = usize::from(u16_at(header, 4));
        let found = rest.get(8..8 + usize::from(header[6]))?;
        if found == name.as_bytes() && u32_at(header, 0) != 0 {
            return Some(u32_at(header, 0));
        }
        rest = rest.get(length..).filter(|rest| length >= 8 && !rest.is_empty())?;
    }
}

fn read<const N: usize>(file: &File, offset: u64) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes([bytes[offset], bytes[offset + 1]])
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from(u16_at(bytes, offset)) | u32::from(u16_at(bytes, offset + 2)) << 16
}

fn unknown(what: &str) -> io::Error {
    io::Error::other(format!("mkfs.ext4 wrote {what}"))
}
