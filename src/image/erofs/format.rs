//! Inodes as bytes: `struct erofs_inode_extended`, the 64-byte form, which loses nothing.

use super::mapping::{Chunks, NO_BLOCK};
use crate::image::tree::{DeviceNumber, Metadata, Node};

/// Size in bytes of an inode without what follows it.
pub(super) const INODE_SIZE: u64 = 64;
/// An inode's number, its nid, is its offset in the inode area in units of this many bytes.
pub(super) const NID_UNIT: u64 = 32;

/// `EROFS_CHUNK_FORMAT_INDEXES`: the index has entries of [`CHUNK_INDEX_SIZE`]. The other form,
/// bare 4-byte addresses, has no holes for erofs-utils 1.9, which takes them for block 2^32 - 1.
const CHUNK_FORMAT_INDEXES: u32 = 0x20;
/// Size in bytes of `struct erofs_inode_chunk_index`, to a multiple of which an index is aligned.
pub(super) const CHUNK_INDEX_SIZE: u64 = 8;

/// What `i_u` and the data layout in `i_format` say of an inode's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DataLayout {
    /// Whole blocks from this one on (`EROFS_INODE_FLAT_PLAIN`); without data [`NO_BLOCK`].
    Plain(u32),
    /// Whole blocks from this one on, or [`NO_BLOCK`], and what is left over behind the inode
    /// (`EROFS_INODE_FLAT_INLINE`).
    Inline(u32),
    /// An index of chunks behind the inode (`EROFS_INODE_CHUNK_BASED`).
    Chunked(Chunks),
    /// A device; it has no data.
    Device(DeviceNumber),
}

/// One inode, all but what follows it.
#[derive(Debug)]
pub(super) struct Record<'t> {
    pub(super) metadata: &'t Metadata,
    pub(super) node: &'t Node,
    pub(super) layout: DataLayout,
    /// Size of the content in bytes.
    pub(super) size: u64,
    /// Number of 4-byte units of the xattr body, as `i_xattr_icount` counts them.
    pub(super) xattr_icount: u16,
    /// `i_ino`, of interest to 32-bit programs only: 1 for the root, counting up.
    pub(super) serial: u32,
    pub(super) links: u32,
}

impl Record<'_> {
    /// Appends the 64 bytes.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let (layout, data) = match self.layout {
            DataLayout::Plain(block) => (0, block),
            DataLayout::Inline(block) => (2, block),
            DataLayout::Chunked(chunks) => (4, chunks.bits | CHUNK_FORMAT_INDEXES),
            DataLayout::Device(number) => (0, encode_device(number)),
        };
        // Bit 0: the extended form.
        let format: u16 = layout << 1 | 1;
        let mode = file_type(self.node) | self.metadata.mode;
        let mtime = self.metadata.mtime;
        out.extend_from_slice(&format.to_le_bytes());
        out.extend_from_slice(&self.xattr_icount.to_le_bytes());
        out.extend_from_slice(&mode.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.size.to_le_bytes());
        out.extend_from_slice(&data.to_le_bytes());
        out.extend_from_slice(&self.serial.to_le_bytes());
        out.extend_from_slice(&self.metadata.uid.to_le_bytes());
        out.extend_from_slice(&self.metadata.gid.to_le_bytes());
        out.extend_from_slice(&mtime.seconds.to_le_bytes());
        out.extend_from_slice(&mtime.nanoseconds.to_le_bytes());
        out.extend_from_slice(&self.links.to_le_bytes());
        out.extend_from_slice(&[0; 16]);
    }
}

/// Entry of a chunk index: the chunk's first block on this device, 0 being the image itself. A hole is on
/// no device.
pub(super) fn encode_chunk_index(device: u16, block: u32) -> [u8; CHUNK_INDEX_SIZE as usize] {
    let device = if block == NO_BLOCK { 0 } else { device };
    (u64::from(block) << 32 | u64::from(device) << 16).to_le_bytes()
}

/// `S_IFMT` part of the mode.
fn file_type(node: &Node) -> u16 {
    match node {
        Node::Fifo => 0o010_000,
        Node::CharacterDevice(_) => 0o020_000,
        Node::Directory(_) => 0o040_000,
        Node::BlockDevice(_) => 0o060_000,
        Node::Regular(_) => 0o100_000,
        Node::Symlink(_) => 0o120_000,
        Node::Socket => 0o140_000,
    }
}

/// The kernel's `new_encode_dev`: 12 bits of major between 8 low and 12 high bits of minor.
fn encode_device(number: DeviceNumber) -> u32 {
    number.minor & 0xff | number.major << 8 | (number.minor & !0xff) << 12
}

/// [`DataLayout::Plain`] of an inode without data.
pub(super) const NO_DATA: DataLayout = DataLayout::Plain(NO_BLOCK);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tree::Timestamp;

    #[test]
    fn a_chunk_index_is_as_specified() {
        assert_eq!(encode_chunk_index(0, 0x0102_0304), [0, 0, 0, 0, 4, 3, 2, 1]);
        assert_eq!(encode_chunk_index(0x0506, 0x0102_0304), [0, 0, 6, 5, 4, 3, 2, 1]);
        assert_eq!(encode_chunk_index(5, NO_BLOCK), [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    }

    #[test]
    fn an_inode_is_as_specified() {
        let metadata = Metadata {
            mode: 0o6711,
            uid: 0x0102_0304,
            gid: 0x0506_0708,
            mtime: Timestamp { seconds: -2, nanoseconds: 999_999_999 },
            xattrs: [].into(),
        };
        let number = DeviceNumber { major: 0xabc, minor: 0x12345 };
        let node = Node::BlockDevice(number);
        let layout = DataLayout::Device(number);
        let record = Record {
            metadata: &metadata,
            node: &node,
            layout,
            size: 0,
            xattr_icount: 3,
            serial: 9,
            links: 2,
        };
        let mut out = Vec::new();
        record.encode(&mut out);
        let expected = [
            &[1, 0, 3, 0, 0xc9, 0x6d, 0, 0][..],
            &[0; 8],
            &[0x45, 0xbc, 0x3a, 0x12, 9, 0, 0, 0],
            &[4, 3, 2, 1, 8, 7, 6, 5],
            &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0xff, 0xc9, 0x9a, 0x3b, 2, 0, 0, 0],
            &[0; 16],
        ]
        .concat();
        assert_eq!(out, expected);
        assert_eq!(out.len() as u64, INODE_SIZE);
    }
}
