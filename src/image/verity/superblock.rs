//! The superblock in front of a tree, both ways: 512 bytes, `struct verity_sb` of cryptsetup's
//! `lib/verity/verity.c`. All numbers are little-endian.

use super::{ALGORITHM, Geometry, HASH_TYPE, SALT};
use crate::image::tree::BLOCK_SIZE;

const BLOCK: usize = BLOCK_SIZE as usize;
const SIZE: usize = 512;
const MAGIC: &[u8; 8] = b"verity\0\0";
const VERSION: u32 = 1;
const ALGORITHM_SIZE: usize = 32;
const SALT_SIZE: usize = 256;

/// What the superblock of a tree says, whoever made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// 0 or 1: whether the salt comes behind or before a block.
    pub hash_type: u32,
    /// Any number; it is no part of the root hash.
    pub uuid: [u8; 16],
    /// Name of the hash.
    pub algorithm: String,
    /// Size in bytes of a block of data.
    pub data_block_size: u32,
    /// Size in bytes of a block of the tree.
    pub hash_block_size: u32,
    /// Number of blocks of data.
    pub data_blocks: u64,
    /// At most 256 bytes.
    pub salt: Vec<u8>,
}

/// Bytes that are not a superblock.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSuperblock {
    /// Fewer bytes than it has.
    #[error("a dm-verity superblock has 512 bytes, there are {0}")]
    TooShort(usize),
    /// Something else.
    #[error("no dm-verity magic number: there is no hash tree here")]
    Magic,
    /// A format of the future.
    #[error("dm-verity superblock of version {0}, only 1 is known")]
    Version(u32),
    /// The name of the hash is no text.
    #[error("the name of the hash algorithm is damaged")]
    Algorithm,
    /// More salt than there is room for.
    #[error("a salt of {0} bytes, at most 256 are possible")]
    Salt(u16),
}

impl Superblock {
    /// The superblock of a tree of ours.
    #[must_use]
    pub fn new(uuid: [u8; 16], geometry: Geometry) -> Self {
        Self {
            hash_type: HASH_TYPE,
            uuid,
            algorithm: ALGORITHM.to_owned(),
            data_block_size: BLOCK as u32,
            hash_block_size: BLOCK as u32,
            data_blocks: geometry.data_blocks().get(),
            salt: SALT.to_vec(),
        }
    }

    /// Reads a superblock from the bytes at the hash offset.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidSuperblock> {
        let block: &[u8; SIZE] = bytes.first_chunk().ok_or(InvalidSuperblock::TooShort(bytes.len()))?;
        if array::<8>(block, 0) != *MAGIC {
            return Err(InvalidSuperblock::Magic);
        }
        let version = u32::from_le_bytes(array(block, 8));
        if version != VERSION {
            return Err(InvalidSuperblock::Version(version));
        }
        let name = array::<ALGORITHM_SIZE>(block, 32);
        let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        let salt_size = u16::from_le_bytes(array(block, 80));
        let salt = array::<SALT_SIZE>(block, 88);
        Ok(Self {
            hash_type: u32::from_le_bytes(array(block, 12)),
            uuid: array(block, 16),
            algorithm: String::from_utf8(name.to_vec()).map_err(|_| InvalidSuperblock::Algorithm)?,
            data_block_size: u32::from_le_bytes(array(block, 64)),
            hash_block_size: u32::from_le_bytes(array(block, 68)),
            data_blocks: u64::from_le_bytes(array(block, 72)),
            salt: salt.get(..usize::from(salt_size)).ok_or(InvalidSuperblock::Salt(salt_size))?.to_vec(),
        })
    }

    /// The block at the hash offset. What does not fit into its field is cut off.
    #[must_use]
    pub fn encode(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let algorithm = truncated(self.algorithm.as_bytes(), ALGORITHM_SIZE);
        let salt = truncated(&self.salt, SALT_SIZE);
        let mut put =
            |offset: usize, bytes: &[u8]| block[offset..offset + bytes.len()].copy_from_slice(bytes);
        put(0, MAGIC);
        put(8, &VERSION.to_le_bytes());
        put(12, &self.hash_type.to_le_bytes());
        put(16, &self.uuid);
        put(32, algorithm);
        put(64, &self.data_block_size.to_le_bytes());
        put(68, &self.hash_block_size.to_le_bytes());
        put(72, &self.data_blocks.to_le_bytes());
        put(80, &(salt.len() as u16).to_le_bytes());
        put(88, salt);
        block
    }
}

fn truncated(bytes: &[u8], size: usize) -> &[u8] {
    bytes.get(..size).unwrap_or(bytes)
}

/// `N` bytes at a fixed offset of the superblock, which lies within it.
fn array<const N: usize>(block: &[u8; SIZE], offset: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&block[offset..offset + N]);
    bytes
}
