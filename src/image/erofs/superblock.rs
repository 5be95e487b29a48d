//! The superblock, both ways: 128 bytes at offset 1024, `struct erofs_super_block`.

use crate::image::tree::BLOCK_SIZE;

const BLOCK: usize = BLOCK_SIZE as usize;
const OFFSET: usize = 1024;
pub(super) const MAGIC: u32 = 0xe0f5_e1e2;
/// Block size of image layout v1, as a power of two.
pub(super) const BLOCK_BITS: u8 = 12;
/// The smallest block size of the format.
const BLOCK_BITS_MIN: u8 = 9;

/// `EROFS_FEATURE_COMPAT_SB_CHKSUM`: the checksum is valid.
const COMPAT_CHECKSUM: u32 = 1;
/// `EROFS_FEATURE_COMPAT_MTIME`: inode times are those of last modification.
const COMPAT_MTIME: u32 = 2;
/// `EROFS_FEATURE_INCOMPAT_CHUNKED_FILE`: some file has a chunk index.
pub(super) const INCOMPAT_CHUNKED_FILE: u32 = 4;
/// `EROFS_FEATURE_INCOMPAT_DEVICE_TABLE`: file data may be on other devices.
pub(super) const INCOMPAT_DEVICE_TABLE: u32 = 8;

/// What the superblock says of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Size of a block, as a power of two: 12 in layout v1, 9 to 12 in what others make.
    pub block_bits: u8,
    /// Number of the root directory's inode.
    pub root_nid: u16,
    /// Number of inodes.
    pub inodes: u64,
    /// Size of the image in blocks.
    pub blocks: u32,
    /// Block at which the inode with number 0 would start.
    pub meta_block: u32,
    /// Block at which the shared extended attributes start; 0 without any.
    pub xattr_block: u32,
    /// UUID of the file system.
    pub uuid: [u8; 16],
    /// Features that a reader must know (`EROFS_FEATURE_INCOMPAT_*`).
    pub incompatible: u32,
    /// Number of other devices that file data is on.
    pub devices: u16,
    /// Where the table of these devices starts, in units of 128 bytes; 0 without any.
    pub device_slot: u16,
}

/// A first block that is not that of an EROFS image whose writing was completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSuperblock {
    /// Fewer bytes than one block.
    #[error("an EROFS image starts with a block of 4096 bytes, there are {0}")]
    TooShort(usize),
    /// Another format, or an image that was never finished.
    #[error("no EROFS magic number: not an EROFS image, or its writing was cut off")]
    Magic,
    /// Another block size.
    #[error("EROFS blocks of 2^{0} bytes, only 4096 are supported")]
    BlockSize(u8),
    /// A block size that not every machine can mount.
    #[error("EROFS blocks of 2^{0} bytes, only 512 to 4096 are supported: make the image with -b4096")]
    ForeignBlockSize(u8),
    /// An image without checksum.
    #[error("the EROFS superblock has no checksum: make the image with one (mkfs.erofs does by default)")]
    NoChecksum,
    /// Damage.
    #[error("the EROFS superblock is damaged: checksum {stored:#010x}, expected {computed:#010x}")]
    Checksum {
        /// The checksum in the superblock.
        stored: u32,
        /// That of its bytes.
        computed: u32,
    },
}

impl Superblock {
    /// Reads the superblock from the first 4096 bytes of an image, and proves it whole.
    ///
    /// # Errors
    /// If it is not the superblock of an EROFS image, or damaged.
    pub fn parse(image: &[u8]) -> Result<Self, InvalidSuperblock> {
        let superblock = Self::parse_foreign(image)?;
        match superblock.block_bits {
            BLOCK_BITS => Ok(superblock),
            bits => Err(InvalidSuperblock::BlockSize(bits)),
        }
    }

    /// The same for an image that someone else made, which may have blocks of 512 to 4096 bytes. Larger ones
    /// could be mounted on machines with larger pages only.
    ///
    /// # Errors
    /// If it is not the superblock of an EROFS image, or damaged.
    pub fn parse_foreign(image: &[u8]) -> Result<Self, InvalidSuperblock> {
        let block: &[u8; BLOCK] = image.first_chunk().ok_or(InvalidSuperblock::TooShort(image.len()))?;
        if u32_at(block, 0) != MAGIC {
            return Err(InvalidSuperblock::Magic);
        }
        let block_bits = block[OFFSET + 12];
        if !(BLOCK_BITS_MIN..=BLOCK_BITS).contains(&block_bits) {
            return Err(InvalidSuperblock::ForeignBlockSize(block_bits));
        }
        if u32_at(block, 8) & COMPAT_CHECKSUM == 0 {
            return Err(InvalidSuperblock::NoChecksum);
        }
        let (stored, computed) = (u32_at(block, 4), checksum(block, block_bits));
        if stored != computed {
            return Err(InvalidSuperblock::Checksum { stored, computed });
        }
        Ok(Self {
            block_bits,
            root_nid: u16::from_le_bytes(array_at(block, 14)),
            inodes: u64::from_le_bytes(array_at(block, 16)),
            blocks: u32_at(block, 36),
            meta_block: u32_at(block, 40),
            xattr_block: u32_at(block, 44),
            uuid: array_at(block, 48),
            incompatible: u32_at(block, 80),
            devices: u16::from_le_bytes(array_at(block, 86)),
            device_slot: u16::from_le_bytes(array_at(block, 88)),
        })
    }

    /// Size of a block in bytes.
    #[must_use]
    pub const fn block_size(&self) -> u64 {
        1 << self.block_bits
    }

    /// Size of the image in bytes. A file that holds it is at least as long.
    #[must_use]
    pub fn image_size(&self) -> u64 {
        u64::from(self.blocks) << self.block_bits
    }

    /// Gives the image whose first 4096 bytes these are another UUID, and leaves all else as it is.
    ///
    /// # Errors
    /// As [`Superblock::parse_foreign`].
    pub fn replace_uuid(image: &mut [u8; BLOCK], uuid: [u8; 16]) -> Result<(), InvalidSuperblock> {
        let superblock = Self::parse_foreign(image)?;
        image[OFFSET + 48..OFFSET + 64].copy_from_slice(&uuid);
        let checksum = checksum(image, superblock.block_bits);
        image[OFFSET + 4..OFFSET + 8].copy_from_slice(&checksum.to_le_bytes());
        Ok(())
    }

    /// The image's first block. What is not set here is zero, build time and volume name too.
    pub(super) fn encode(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let mut put = |offset: usize, bytes: &[u8]| {
            block[OFFSET + offset..OFFSET + offset + bytes.len()].copy_from_slice(bytes);
        };
        put(0, &MAGIC.to_le_bytes());
        put(8, &(COMPAT_CHECKSUM | COMPAT_MTIME).to_le_bytes());
        put(12, &[self.block_bits]);
        put(14, &self.root_nid.to_le_bytes());
        put(16, &self.inodes.to_le_bytes());
        put(36, &self.blocks.to_le_bytes());
        put(40, &self.meta_block.to_le_bytes());
        put(44, &self.xattr_block.to_le_bytes());
        put(48, &self.uuid);
        put(80, &self.incompatible.to_le_bytes());
        put(86, &self.devices.to_le_bytes());
        put(88, &self.device_slot.to_le_bytes());
        let checksum = checksum(&block, self.block_bits);
        block[OFFSET + 4..OFFSET + 8].copy_from_slice(&checksum.to_le_bytes());
        block
    }
}

/// CRC-32C of the superblock's block from the superblock on, the checksum's own bytes as zeros. The format
/// leaves out the final inversion that CRC-32C is usually defined with.
fn checksum(image: &[u8; BLOCK], block_bits: u8) -> u32 {
    let block = 1 << block_bits;
    // In small blocks the superblock is the first thing of its own, as `erofs_superblock_csum_verify` has it.
    let covered = if block > OFFSET { block - OFFSET } else { block };
    let crc = crc32c::crc32c(&image[OFFSET..OFFSET + 4]);
    let crc = crc32c::crc32c_append(crc, &[0; 4]);
    !crc32c::crc32c_append(crc, &image[OFFSET + 8..OFFSET + covered])
}

fn u32_at(block: &[u8; BLOCK], offset: usize) -> u32 {
    u32::from_le_bytes(array_at(block, offset))
}

/// `N` bytes at a fixed offset of the superblock, which lies within its block.
fn array_at<const N: usize>(block: &[u8; BLOCK], offset: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&block[OFFSET + offset..OFFSET + offset + N]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock() -> Superblock {
        Superblock {
            block_bits: BLOCK_BITS,
            root_nid: 1,
            inodes: 0x1_0000_0002,
            blocks: 77,
            meta_block: 33,
            xattr_block: 44,
            uuid: *b"0123456789abcdef",
            incompatible: INCOMPAT_CHUNKED_FILE,
            devices: 3,
            device_slot: 32,
        }
    }

    #[test]
    fn parses_what_it_encodes() {
        let parsed = Superblock::parse(&superblock().encode()).unwrap();
        assert_eq!(parsed, superblock());
        assert_eq!(parsed.image_size(), 77 * 4096);
    }

    #[test]
    fn an_image_of_erofs_utils_is_whole() {
        // All of an image that mkfs.erofs 1.9.4 made of an empty directory, from the superblock on.
        const SUPERBLOCK: [u8; 64] = [
            0xe2, 0xe1, 0xf5, 0xe0, 0x69, 0xf4, 0x83, 0x18, 3, 0, 0, 0, 12, 0, 0x24, 0, //
            1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, //
            0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, //
            0x70, 0x7a, 0x85, 0x34, 0x5e, 0x23, 0x40, 0xa1, 0x9b, 0xe0, 0x7b, 0x81, 0x20, 0x55, 0x1d, 0x50,
        ];
        const ROOT: [u8; 59] = [
            4, 0, 0, 0, 0xed, 0x41, 2, 0, 0x1b, 0, 0, 0, 0, 0, 0, 0, //
            0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, //
            0x24, 0, 0, 0, 0, 0, 0, 0, 0x18, 0, 2, 0, 0x24, 0, 0, 0, //
            0, 0, 0, 0, 0x19, 0, 2, 0, 0x2e, 0x2e, 0x2e,
        ];
        let mut block = [0; BLOCK];
        block[OFFSET..OFFSET + 64].copy_from_slice(&SUPERBLOCK);
        block[OFFSET + 128..OFFSET + 128 + 59].copy_from_slice(&ROOT);
        let superblock = Superblock::parse(&block).unwrap();
        assert_eq!((superblock.root_nid, superblock.inodes, superblock.blocks), (36, 1, 1));
        assert_eq!(superblock.uuid[..4], [0x70, 0x7a, 0x85, 0x34]);
    }

    #[test]
    fn another_uuid_changes_nothing_else() {
        for bits in [9, 12] {
            let before = Superblock { block_bits: bits, ..superblock() };
            let mut block = before.encode();
            Superblock::replace_uuid(&mut block, *b"fedcba9876543210").unwrap();
            let after = Superblock { uuid: *b"fedcba9876543210", ..before };
            assert_eq!(block, after.encode());
        }
    }

    #[test]
    fn damage_is_found() {
        let whole = superblock().encode();
        assert_eq!(Superblock::parse(&whole[..4095]), Err(InvalidSuperblock::TooShort(4095)));
        assert_eq!(Superblock::parse(&[0; BLOCK]), Err(InvalidSuperblock::Magic));
        for offset in (OFFSET..BLOCK).filter(|offset| !(OFFSET + 4..OFFSET + 8).contains(offset)) {
            let mut damaged = whole;
            damaged[offset] ^= 0x10;
            assert!(Superblock::parse(&damaged).is_err(), "byte {offset}");
        }
    }

    #[test]
    fn other_images_are_told_apart() {
        for bits in [9, 10, 11] {
            let small = Superblock { block_bits: bits, ..superblock() };
            assert_eq!(Superblock::parse(&small.encode()), Err(InvalidSuperblock::BlockSize(bits)));
            let parsed = Superblock::parse_foreign(&small.encode()).unwrap();
            assert_eq!((parsed, parsed.image_size()), (small, 77 << bits));
        }
        for bits in [0, 8, 13, 255] {
            let mut block = superblock().encode();
            block[OFFSET + 12] = bits;
            assert_eq!(Superblock::parse(&block), Err(InvalidSuperblock::ForeignBlockSize(bits)));
        }
        let mut block = superblock().encode();
        block[OFFSET + 8] = 2;
        assert_eq!(Superblock::parse(&block), Err(InvalidSuperblock::NoChecksum));
    }
}
