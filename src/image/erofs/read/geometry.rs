//! What the superblock says about where things are.

use super::error::{Damage, Error, Unsupported};
use super::source::{Fields, ReadAt, Window};
use super::xattr::{self, Prefix};
use crate::image::erofs::format::NID_UNIT;
use crate::image::erofs::superblock::{INCOMPAT_CHUNKED_FILE, Superblock};
use crate::image::tree::{BLOCK_SIZE, Timestamp};

/// Where the superblock starts in its block.
const SUPERBLOCK: usize = 1024;
/// `EROFS_FEATURE_INCOMPAT_LZ4_0PADDING`: how compressed data is padded. mkfs.erofs sets it in images
/// without any.
const INCOMPAT_ZERO_PADDING: u32 = 1;
/// `EROFS_FEATURE_INCOMPAT_XATTR_PREFIXES`: attribute names may have prefixes of the image's own.
const INCOMPAT_XATTR_PREFIXES: u32 = 0x40;
const KNOWN_FEATURES: u32 = INCOMPAT_ZERO_PADDING | INCOMPAT_CHUNKED_FILE | INCOMPAT_XATTR_PREFIXES;

/// Where things are in an image.
#[derive(Debug)]
pub(super) struct Geometry {
    /// Size of the image in blocks.
    pub(super) blocks: u32,
    /// Number of the root directory's inode.
    pub(super) root_nid: u64,
    /// Byte at which the inode with number 0 would start.
    inodes: u64,
    /// Byte at which the shared attributes start.
    pub(super) shared_xattrs: u64,
    /// The image's own prefixes of attribute names.
    pub(super) prefixes: Vec<Prefix>,
    /// Time of every compact inode, to which it adds its own seconds.
    pub(super) epoch: Timestamp,
}

impl Geometry {
    /// Reads the superblock, and refuses an image that uses what is not known here.
    pub(super) fn read<S: ReadAt>(source: &S) -> Result<(Superblock, Self), Error> {
        let mut block = [0; BLOCK_SIZE as usize];
        let read = source.read_exact_at(0, &mut block);
        read.map_err(|source| Error::Read { offset: 0, source })?;
        let superblock = Superblock::parse(&block)?;
        let record: [u8; 128] = std::array::from_fn(|index| block[SUPERBLOCK + index]);
        check_known(&superblock, &record)?;
        let mut geometry = Self {
            blocks: superblock.blocks,
            root_nid: u64::from(superblock.root_nid),
            inodes: u64::from(superblock.meta_block) * BLOCK_SIZE,
            shared_xattrs: u64::from(superblock.xattr_block) * BLOCK_SIZE,
            prefixes: Vec::new(),
            epoch: epoch(&record)?,
        };
        if superblock.incompatible & INCOMPAT_XATTR_PREFIXES != 0 {
            let start = u64::from(record.u32_at(92)) * 4;
            let mut window = Window::new(source, geometry.end());
            geometry.prefixes = xattr::read_prefixes(&mut window, start, record[91])?;
        }
        Ok((superblock, geometry))
    }

    /// Size of the image in bytes.
    pub(super) fn end(&self) -> u64 {
        u64::from(self.blocks) * BLOCK_SIZE
    }

    /// Byte at which an inode starts.
    pub(super) fn inode_offset(&self, nid: u64) -> Result<u64, Error> {
        let offset = nid.checked_mul(NID_UNIT).and_then(|offset| offset.checked_add(self.inodes));
        offset.ok_or(Error::damaged_at(self.inodes, Damage::InodeNumber(nid)))
    }
}

fn check_known(superblock: &Superblock, record: &[u8; 128]) -> Result<(), Unsupported> {
    let unknown = superblock.incompatible & !KNOWN_FEATURES;
    if unknown != 0 {
        return Err(Unsupported::Features(unknown));
    }
    match (record.u16_at(86), record[90]) {
        (0, 0) => Ok(()),
        (0, _) => Err(Unsupported::DirectoryBlocks),
        (devices, _) => Err(Unsupported::ExtraDevices(devices)),
    }
}

fn epoch(record: &[u8; 128]) -> Result<Timestamp, Error> {
    let (seconds, nanoseconds) = (record.u64_at(24).cast_signed(), record.u32_at(32));
    if nanoseconds >= 1_000_000_000 {
        return Err(Error::damaged_at(SUPERBLOCK as u64, Damage::Time));
    }
    Ok(Timestamp { seconds, nanoseconds })
}
