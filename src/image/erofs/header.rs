//! All that a superblock says, of any EROFS image, and the devices that it names.
//!
//! Nothing is refused but what is no superblock: this is for telling a person what is there. Whoever reads an
//! image on uses [`Superblock`](super::Superblock), which refuses what it does not know.
//!
//! Format: `struct erofs_super_block` and `struct erofs_deviceslot` in the kernel's `fs/erofs/erofs_fs.h`.

use std::io;

use super::superblock::MAGIC;
use crate::image::erofs::read::ReadAt;
use crate::image::tree::Timestamp;

/// Where the superblock starts, and its size, in bytes.
const OFFSET: usize = 1024;
const SIZE: usize = 128;
/// Bytes of a device slot.
const SLOT: usize = 128;
/// Smallest and largest block size that the format knows, as powers of two.
const BLOCK_BITS: std::ops::RangeInclusive<u8> = 9..=16;

/// `feature_compat` by bit.
const COMPATIBLE: [&str; 5] =
    ["sb_chksum", "mtime", "xattr_filter", "shared_ea_in_metabox", "plain_xattr_pfx"];
/// `feature_incompat` by bit.
const INCOMPATIBLE: [&str; 9] = [
    "lz4_0padding",
    "compr_cfgs",
    "chunked_file",
    "device_table",
    "ztailpacking",
    "fragments",
    "xattr_prefixes",
    "48bit",
    "metabox",
];

/// What a superblock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whether the checksum is right.
    pub checksum: Checksum,
    /// Size of a block in bytes, from 512 to 65536.
    pub block_size: u32,
    /// Features that a reader need not know, as the kernel calls them, or `bit N`.
    pub compatible: Vec<String>,
    /// Features that a reader must know.
    pub incompatible: Vec<String>,
    /// Number of the root directory's inode.
    pub root_nid: u16,
    /// Number of inodes.
    pub inodes: u64,
    /// Size of the image in blocks.
    pub blocks: u32,
    /// Block at which the inode with number 0 would start.
    pub meta_block: u32,
    /// Block at which the shared extended attributes start.
    pub xattr_block: u32,
    /// When the image was made, or whatever its maker put there.
    pub built: Timestamp,
    /// UUID of the file system.
    pub uuid: [u8; 16],
    /// Its name, up to the first NUL.
    pub volume_name: Vec<u8>,
    /// Number of prefixes of names of extended attributes.
    pub xattr_prefixes: u8,
    /// The devices that file data is on, besides the image itself.
    pub devices: Vec<DeviceSlot>,
}

/// Whether a superblock is the one that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// The image has none.
    None,
    /// It is right.
    Right,
    /// It is not.
    Wrong,
}

/// A device that file data is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSlot {
    /// By which it is told apart, up to the first NUL.
    pub tag: Vec<u8>,
    /// Its size in blocks.
    pub blocks: u32,
    /// Where it follows on a device that holds all, in blocks.
    pub mapped_block: u32,
}

/// Bytes that are no EROFS image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another format.
    #[error("no EROFS magic number")]
    Magic,
    /// A block size that the format does not have.
    #[error("EROFS blocks of 2^{0} bytes: from 2^9 to 2^16 are possible")]
    BlockSize(u8),
    /// The bytes cannot be read.
    #[error("cannot read the EROFS image at byte {offset}: {source}")]
    Read {
        /// Where, in bytes from the start of the image.
        offset: u64,
        /// What the source reported.
        source: io::Error,
    },
}

impl Header {
    /// Reads the superblock of the image at the start of `source`, and the table of its devices.
    ///
    /// # Errors
    /// If there is no superblock, or the bytes cannot be read.
    pub fn read<S: ReadAt + ?Sized>(source: &S) -> Result<Self, Error> {
        let mut record = [0; SIZE];
        read(source, OFFSET as u64, &mut record)?;
        let field = Fields(&record);
        if field.u32(0) != MAGIC {
            return Err(Error::Magic);
        }
        let bits = field.u8(12);
        if !BLOCK_BITS.contains(&bits) {
            return Err(Error::BlockSize(bits));
        }
        let block_size = 1 << bits;
        let compatible = field.u32(8);
        Ok(Self {
            checksum: checksum(source, &record, block_size, compatible)?,
            block_size,
            compatible: names(compatible, &COMPATIBLE),
            incompatible: names(field.u32(80), &INCOMPATIBLE),
            root_nid: field.u16(14),
            inodes: field.u64(16),
            blocks: field.u32(36),
            meta_block: field.u32(40),
            xattr_block: field.u32(44),
            built: Timestamp { seconds: field.u64(24).cast_signed(), nanoseconds: field.u32(32) },
            uuid: field.array(48),
            volume_name: text(&field.array::<16>(64)),
            xattr_prefixes: field.u8(91),
            devices: devices(source, field.u16(86), field.u16(88))?,
        })
    }

    /// Size of the image in bytes.
    #[must_use]
    pub fn image_size(&self) -> u64 {
        u64::from(self.blocks) * u64::from(self.block_size)
    }
}

/// CRC-32C from the superblock to the end of its block, as the format computes it.
fn checksum<S: ReadAt + ?Sized>(
    source: &S,
    record: &[u8; SIZE],
    block_size: u32,
    compatible: u32,
) -> Result<Checksum, Error> {
    if compatible & 1 == 0 {
        return Ok(Checksum::None);
    }
    let block_size = block_size as usize;
    let mut bytes = vec![0; if block_size > OFFSET { block_size - OFFSET } else { block_size }];
    read(source, OFFSET as u64, &mut bytes)?;
    if let Some(stored) = bytes.get_mut(4..8) {
        stored.fill(0);
    }
    let is_right = !crc32c::crc32c(&bytes) == Fields(record).u32(4);
    Ok(if is_right { Checksum::Right } else { Checksum::Wrong })
}

fn devices<S: ReadAt + ?Sized>(source: &S, count: u16, first: u16) -> Result<Vec<DeviceSlot>, Error> {
    let slots = (0..u64::from(count)).map(|index| {
        let mut record = [0; SLOT];
        read(source, (u64::from(first) + index) * SLOT as u64, &mut record)?;
        let field = Fields(&record);
        let tag = text(&field.array::<64>(0));
        Ok(DeviceSlot { tag, blocks: field.u32(64), mapped_block: field.u32(68) })
    });
    slots.collect()
}

fn read<S: ReadAt + ?Sized>(source: &S, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
    source.read_exact_at(offset, buffer).map_err(|source| Error::Read { offset, source })
}

/// The names of the bits that are set.
fn names(bits: u32, known: &[&str]) -> Vec<String> {
    let set = (0..u32::BITS).filter(|bit| bits & 1 << bit != 0);
    set.map(|bit| known.get(bit as usize).map_or_else(|| format!("bit {bit}"), ToString::to_string)).collect()
}

fn text(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

/// The little-endian numbers of a record, at offsets that lie inside it.
struct Fields<'r>(&'r [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&self, offset: usize) -> [u8; N] {
        std::array::from_fn(|index| self.u8(offset + index))
    }

    fn u8(&self, offset: usize) -> u8 {
        self.0.get(offset).copied().unwrap_or_default()
    }

    fn u16(&self, offset: usize) -> u16 {
        u16::from_le_bytes(self.array(offset))
    }

    fn u32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.array(offset))
    }

    fn u64(&self, offset: usize) -> u64 {
        u64::from_le_bytes(self.array(offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As mkfs.erofs 1.9.4 writes it: version 1 of the layout of features.
    fn image() -> Vec<u8> {
        let mut image = vec![0; 3 * 4096];
        let mut put = |offset: usize, bytes: &[u8]| {
            image[OFFSET + offset..OFFSET + offset + bytes.len()].copy_from_slice(bytes);
        };
        put(0, &MAGIC.to_le_bytes());
        put(8, &3_u32.to_le_bytes());
        put(12, &[12]);
        put(14, &36_u16.to_le_bytes());
        put(16, &7_u64.to_le_bytes());
        put(24, &1_700_000_000_u64.to_le_bytes());
        put(36, &3_u32.to_le_bytes());
        put(64, b"volume\0x");
        put(80, &(8_u32 | 1 << 31).to_le_bytes());
        put(86, &[1, 0, 16, 0]);
        image[2048..2051].copy_from_slice(b"tag");
        image[2048 + 64..2048 + 72].copy_from_slice(&[5, 0, 0, 0, 9, 0, 0, 0]);
        let sum = !crc32c::crc32c(&image[OFFSET..4096]);
        image[OFFSET + 4..OFFSET + 8].copy_from_slice(&sum.to_le_bytes());
        image
    }

    #[test]
    fn everything_is_told() {
        let header = Header::read(&image()).unwrap();
        assert_eq!(header.checksum, Checksum::Right);
        assert_eq!((header.block_size, header.image_size()), (4096, 3 * 4096));
        assert_eq!(
            (header.compatible.join(" "), header.incompatible.join(" ")),
            ("sb_chksum mtime".into(), "device_table bit 31".into())
        );
        assert_eq!((header.root_nid, header.inodes, header.built.seconds), (36, 7, 1_700_000_000));
        assert_eq!(header.volume_name, b"volume");
        let device = DeviceSlot { tag: b"tag".to_vec(), blocks: 5, mapped_block: 9 };
        assert_eq!(header.devices, [device]);
    }

    #[test]
    fn damage_is_told_and_other_bytes_are_refused() {
        let mut damaged = image();
        damaged[OFFSET + 60] ^= 1;
        assert_eq!(Header::read(&damaged).unwrap().checksum, Checksum::Wrong);
        damaged[OFFSET + 8] = 0;
        assert_eq!(Header::read(&damaged).unwrap().checksum, Checksum::None);
        damaged[OFFSET + 12] = 40;
        assert!(matches!(Header::read(&damaged), Err(Error::BlockSize(40))));
        assert!(matches!(Header::read(&vec![0; 4096]), Err(Error::Magic)));
        assert!(matches!(Header::read(&vec![0; 1100]), Err(Error::Read { .. })));
    }
}
