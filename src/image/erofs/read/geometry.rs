//! What the superblock says about where things are.

use super::device::FlatDevice;
use super::error::{Damage, Error, Unsupported};
use super::source::{Fields, ReadAt, Window};
use super::xattr::{self, Prefix};
use crate::image::erofs::format::NID_UNIT;
use crate::image::erofs::superblock::{INCOMPAT_CHUNKED_FILE, Superblock};
use crate::image::tree::{BLOCK_SIZE, Timestamp};

/// Where the superblock starts in its block.
const SUPERBLOCK: usize = 1024;
/// Size of the superblock without slots that follow it, and of a slot.
const SUPERBLOCK_SIZE: u64 = 128;
const SLOT_SIZE: u64 = 16;

/// `EROFS_FEATURE_INCOMPAT_LZ4_0PADDING`: how compressed data is padded. mkfs.erofs sets it in images
/// without any.
const INCOMPAT_ZERO_PADDING: u32 = 1;
/// `EROFS_FEATURE_INCOMPAT_COMPR_CFGS`, also `_BIG_PCLUSTER`: settings of the algorithms follow the superblock.
const INCOMPAT_ALGORITHMS: u32 = 2;
/// `EROFS_FEATURE_INCOMPAT_DEVICE_TABLE`, also `_COMPR_HEAD2`.
const INCOMPAT_DEVICE_TABLE: u32 = 8;
/// `EROFS_FEATURE_INCOMPAT_ZTAILPACKING`: the end of a compressed file may be behind its inode.
const INCOMPAT_INLINE_ENDS: u32 = 0x10;
/// `EROFS_FEATURE_INCOMPAT_FRAGMENTS`, also `_DEDUPE`: ends of files may be in an inode of their own.
const INCOMPAT_FRAGMENTS: u32 = 0x20;
/// `EROFS_FEATURE_INCOMPAT_XATTR_PREFIXES`: attribute names may have prefixes of the image's own.
const INCOMPAT_XATTR_PREFIXES: u32 = 0x40;

const KNOWN_FEATURES: u32 = INCOMPAT_ZERO_PADDING | INCOMPAT_CHUNKED_FILE | INCOMPAT_XATTR_PREFIXES;
const FOREIGN_FEATURES: u32 =
    KNOWN_FEATURES | INCOMPAT_ALGORITHMS | INCOMPAT_DEVICE_TABLE | INCOMPAT_INLINE_ENDS | INCOMPAT_FRAGMENTS;
/// With both, the prefixes are in the inode that has the ends of files, which may be compressed.
const PREFIXES_AMONG_FRAGMENTS: u32 = INCOMPAT_FRAGMENTS | INCOMPAT_XATTR_PREFIXES;

/// LZ4, LZMA, DEFLATE and Zstandard.
const KNOWN_ALGORITHMS: u16 = 0xf;

/// How much of the format is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subset {
    /// What file data can be pointed into and read from: 4096-byte blocks, nothing compressed, one device.
    Plain,
    /// Whatever the kernel mounts from one file of this many bytes.
    Foreign {
        /// Size of the file in bytes.
        file_bytes: u64,
    },
}

/// Where things are in an image.
#[derive(Debug)]
pub(super) struct Geometry {
    /// How much of the format is taken.
    pub(super) subset: Subset,
    /// Size of a block in bytes.
    pub(super) block_size: u64,
    /// Size of the image in blocks, what is on its device included.
    pub(super) blocks: u32,
    /// Size of the part in bytes that metadata is in: all but the device.
    metadata_end: u64,
    /// The device that is behind the image in the same file, if there is one.
    pub(super) device: Option<FlatDevice>,
    /// Number of the root directory's inode.
    pub(super) root_nid: u64,
    /// Number of the inode that ends of files are in, if there is one.
    pub(super) packed_nid: Option<u64>,
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
    /// Reads the superblock, and refuses an image that uses what is not taken here.
    pub(super) fn read<S: ReadAt>(source: &S, subset: Subset) -> Result<(Superblock, Self), Error> {
        let block = first_block(source, subset)?;
        let superblock = match subset {
            Subset::Plain => Superblock::parse(&block)?,
            Subset::Foreign { .. } => Superblock::parse_foreign(&block)?,
        };
        let record: [u8; 128] = std::array::from_fn(|index| block[SUPERBLOCK + index]);
        check_known(subset, &superblock, &record)?;
        let mut geometry = Self {
            subset,
            block_size: superblock.block_size(),
            blocks: superblock.blocks,
            metadata_end: superblock.image_size(),
            device: None,
            root_nid: u64::from(superblock.root_nid),
            packed_nid: packed_nid(&superblock, &record),
            inodes: u64::from(superblock.meta_block) << superblock.block_bits,
            shared_xattrs: u64::from(superblock.xattr_block) << superblock.block_bits,
            prefixes: Vec::new(),
            epoch: epoch(&record)?,
        };
        let mut window = Window::new(source, geometry.end());
        if record.u16_at(86) > 0 {
            let device = FlatDevice::read(&mut window, u64::from(record.u16_at(88)), superblock.blocks)?;
            geometry.blocks = device.end()?;
            geometry.device = Some(device);
        }
        geometry.check_length()?;
        if superblock.incompatible & INCOMPAT_ALGORITHMS != 0 {
            check_algorithms(&mut window, &record)?;
        }
        if superblock.incompatible & INCOMPAT_XATTR_PREFIXES != 0 {
            let start = u64::from(record.u32_at(92)) * 4;
            geometry.prefixes = xattr::read_prefixes(&mut window, start, record[91])?;
        }
        Ok((superblock, geometry))
    }

    /// Size in bytes of the part that metadata is in.
    pub(super) fn end(&self) -> u64 {
        self.metadata_end
    }

    /// Refuses an image that is longer than its file.
    fn check_length(&self) -> Result<(), Error> {
        let image_bytes = u64::from(self.blocks) * self.block_size;
        match self.subset {
            Subset::Foreign { file_bytes } if image_bytes > file_bytes => {
                Err(Error::damaged_at(file_bytes, Damage::CutShort { image_bytes }))
            }
            _ => Ok(()),
        }
    }

    /// Byte at which an inode starts.
    pub(super) fn inode_offset(&self, nid: u64) -> Result<u64, Error> {
        let offset = nid.checked_mul(NID_UNIT).and_then(|offset| offset.checked_add(self.inodes));
        offset.ok_or(Error::damaged_at(self.inodes, Damage::InodeNumber(nid)))
    }
}

/// The first 4096 bytes, or as many as there are and zeros: an image of small blocks can have fewer.
fn first_block<S: ReadAt>(source: &S, subset: Subset) -> Result<[u8; BLOCK_SIZE as usize], Error> {
    let mut block = [0; BLOCK_SIZE as usize];
    let length = match subset {
        Subset::Plain => BLOCK_SIZE,
        Subset::Foreign { file_bytes } => file_bytes.min(BLOCK_SIZE),
    };
    let read = source.read_exact_at(0, &mut block[..length as usize]);
    read.map_err(|source| Error::Read { offset: 0, source })?;
    Ok(block)
}

fn check_known(subset: Subset, superblock: &Superblock, record: &[u8; 128]) -> Result<(), Unsupported> {
    let features = superblock.incompatible;
    let known = match subset {
        Subset::Plain => KNOWN_FEATURES,
        Subset::Foreign { .. } => FOREIGN_FEATURES,
    };
    // Without the feature the kernel would pass over a device, and read its data from elsewhere.
    let devices = u16::from(features & known & INCOMPAT_DEVICE_TABLE != 0);
    if features & !known != 0 {
        return Err(Unsupported::Features(features & !known));
    }
    if features & PREFIXES_AMONG_FRAGMENTS == PREFIXES_AMONG_FRAGMENTS {
        return Err(Unsupported::Features(PREFIXES_AMONG_FRAGMENTS));
    }
    match (record.u16_at(86), record[90]) {
        (extra, _) if extra > devices => Err(Unsupported::ExtraDevices(extra)),
        (_, 0) => Ok(()),
        _ => Err(Unsupported::DirectoryBlocks),
    }
}

/// Refuses algorithms that no kernel has. Behind the superblock each has settings with their length before.
fn check_algorithms<S: ReadAt>(window: &mut Window<'_, S>, record: &[u8; 128]) -> Result<(), Error> {
    let algorithms = record.u16_at(84);
    if algorithms & !KNOWN_ALGORITHMS != 0 {
        return Err(Unsupported::Algorithms(algorithms & !KNOWN_ALGORITHMS).into());
    }
    let mut offset = SUPERBLOCK as u64 + SUPERBLOCK_SIZE + SLOT_SIZE * u64::from(record[13]);
    for _ in 0..algorithms.count_ones() {
        let length = u64::from(u16::from_le_bytes(window.array(offset)?));
        window.check(offset + 2, length)?;
        offset += 2 + length;
    }
    Ok(())
}

fn packed_nid(superblock: &Superblock, record: &[u8; 128]) -> Option<u64> {
    let nid = record.u64_at(96);
    (superblock.incompatible & INCOMPAT_FRAGMENTS != 0 && nid != 0).then_some(nid)
}

fn epoch(record: &[u8; 128]) -> Result<Timestamp, Error> {
    let (seconds, nanoseconds) = (record.u64_at(24).cast_signed(), record.u32_at(32));
    if nanoseconds >= 1_000_000_000 {
        return Err(Error::damaged_at(SUPERBLOCK as u64, Damage::Time));
    }
    Ok(Timestamp { seconds, nanoseconds })
}
