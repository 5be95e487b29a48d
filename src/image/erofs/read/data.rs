//! Where the content of an inode is: runs of blocks, and perhaps a tail behind the inode.

use super::compressed;
use super::error::{Damage, Error, Unsupported};
use super::geometry::Geometry;
use super::inode::{DataLayout, FileType, Record};
use super::limits::Budget;
use super::source::{Fields, ReadAt, Window};
use crate::image::erofs::mapping::NO_BLOCK;
use crate::image::tree::Extent;

/// The last bytes of a file, where they are stored behind its inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Where they are in the image, in bytes.
    pub image_offset: u64,
    /// Where they are in the file, in bytes.
    pub file_offset: u64,
    /// How many there are: fewer than a block has.
    pub length: u64,
}

/// Where the content of an inode is, in blocks of the image. What neither extents nor tail cover reads as
/// zeros, unless all of it is compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    block_size: u64,
    pub(super) extents: Vec<Extent>,
    pub(super) tail: Option<Tail>,
    /// The content can be read by the kernel only.
    pub(super) compressed: bool,
}

impl Mapping {
    /// Finds the content of a regular file, directory or symbolic link.
    pub(super) fn read<S: ReadAt>(
        window: &mut Window<'_, S>,
        geometry: &Geometry,
        record: &Record,
        budget: &mut Budget,
    ) -> Result<Self, Error> {
        let block_size = geometry.block_size;
        let none = Self { block_size, extents: Vec::new(), tail: None, compressed: false };
        let whole = match record.layout {
            DataLayout::Chunked => {
                let extents = Chunks::of(record, block_size)?.extents(window, geometry, record, budget)?;
                return Ok(Self { extents, ..none });
            }
            DataLayout::Compressed(index) => {
                compressed::check(window, geometry, record, index)?;
                return Ok(Self { compressed: true, ..none });
            }
            DataLayout::Plain => record.size.div_ceil(block_size),
            DataLayout::Inline => record.size / block_size,
        };
        let extent = contiguous(geometry, record, 0, record.data, whole)?;
        let inline = record.layout == DataLayout::Inline;
        let tail = if inline { tail(window, record, block_size)? } else { None };
        Ok(Self { extents: extent.into_iter().collect(), tail, ..none })
    }

    /// Where a position of the content is in the image; `None` in a hole.
    pub(super) fn place(&self, position: u64) -> Option<u64> {
        if let Some(tail) = self.tail.filter(|tail| position >= tail.file_offset) {
            return Some(tail.image_offset + (position - tail.file_offset));
        }
        let block = position / self.block_size;
        let next = self.extents.partition_point(|extent| extent.file_block <= block);
        let extent = self.extents.get(next.checked_sub(1)?)?;
        let index = block - extent.file_block;
        let inside = index < u64::from(extent.blocks);
        inside.then(|| (u64::from(extent.image_block) + index) * self.block_size + position % self.block_size)
    }
}

/// A run of blocks, which has to lie in the image; `None` if it is empty.
fn contiguous(
    geometry: &Geometry,
    record: &Record,
    file_block: u64,
    image_block: u32,
    blocks: u64,
) -> Result<Option<Extent>, Error> {
    if blocks == 0 {
        return Ok(None);
    }
    match u32::try_from(blocks) {
        Ok(count) if u64::from(image_block) + blocks <= u64::from(geometry.blocks) => {
            Ok(Some(Extent { file_block, image_block, blocks: count }))
        }
        _ => Err(Error::damaged_at(record.offset, Damage::Blocks { block: image_block, blocks })),
    }
}

/// The tail of a file with [`DataLayout::Inline`]. Like the kernel, it takes one only within a block.
fn tail<S: ReadAt>(window: &Window<'_, S>, record: &Record, block_size: u64) -> Result<Option<Tail>, Error> {
    let (length, image_offset) = (record.size % block_size, record.behind_xattrs());
    match length {
        0 if record.size == 0 => Ok(None),
        0 => Err(Error::damaged_at(record.offset, Damage::Tail)),
        _ if image_offset % block_size + length > block_size => {
            Err(Error::damaged_at(record.offset, Damage::Tail))
        }
        _ => {
            window.check(image_offset, length)?;
            Ok(Some(Tail { image_offset, file_offset: record.size - length, length }))
        }
    }
}

/// Where what follows an inode ends, in bytes: its attributes, its tail or its chunk index.
pub(super) fn end_of_inode(record: &Record, block_size: u64) -> Result<u64, Unsupported> {
    let behind = record.behind_xattrs();
    Ok(match record.layout {
        // What is no file, directory or link has no content, whatever its layout says.
        _ if !matches!(record.kind, FileType::Regular | FileType::Directory | FileType::Symlink) => behind,
        DataLayout::Plain | DataLayout::Compressed(_) => behind,
        DataLayout::Inline => behind + record.size % block_size,
        DataLayout::Chunked => {
            let chunks = Chunks::of(record, block_size)?;
            let start = behind.next_multiple_of(chunks.entry);
            start.saturating_add(chunks.count().saturating_mul(chunks.entry))
        }
    })
}

/// `EROFS_CHUNK_FORMAT_INDEXES`: entries of 8 bytes with a device, and not bare 4-byte addresses.
const FORMAT_INDEXES: u32 = 0x20;
/// `EROFS_CHUNK_FORMAT_BLKBITS_MASK`.
const FORMAT_BITS: u32 = 0x1f;

/// A chunk index.
struct Chunks {
    /// Size of a chunk, as a power of two in blocks.
    bits: u32,
    /// Size of an entry in bytes.
    entry: u64,
    /// Blocks of the file.
    blocks: u64,
}

impl Chunks {
    fn of(record: &Record, block_size: u64) -> Result<Self, Unsupported> {
        if record.data & !(FORMAT_INDEXES | FORMAT_BITS) != 0 {
            return Err(Unsupported::ChunkFormat(record.data));
        }
        let entry = if record.data & FORMAT_INDEXES == 0 { 4 } else { 8 };
        Ok(Self { bits: record.data & FORMAT_BITS, entry, blocks: record.size.div_ceil(block_size) })
    }

    /// Number of entries.
    fn count(&self) -> u64 {
        self.blocks.div_ceil(1 << self.bits)
    }

    /// Reads the index, joining chunks that follow one another.
    fn extents<S: ReadAt>(
        &self,
        window: &mut Window<'_, S>,
        geometry: &Geometry,
        record: &Record,
        budget: &mut Budget,
    ) -> Result<Vec<Extent>, Error> {
        let start = record.behind_xattrs().next_multiple_of(self.entry);
        let count = self.count();
        // A product that overflows is past the end of every image.
        window.check(start, count.saturating_mul(self.entry))?;
        // The work counts too: several inodes can have the same index, and all of its entries be joined.
        budget.bytes(count)?;
        let mut extents: Vec<Extent> = Vec::new();
        for index in 0..count {
            let address = self.address(window, geometry, start + index * self.entry)?;
            if address == NO_BLOCK {
                continue;
            }
            let file_block = index << self.bits;
            let blocks = (self.blocks - file_block).min(1 << self.bits);
            if let Some(chunk) = contiguous(geometry, record, file_block, address, blocks)?
                && !extents.last_mut().is_some_and(|last| join(last, &chunk))
            {
                budget.bytes(size_of::<Extent>() as u64)?;
                extents.push(chunk);
            }
        }
        Ok(extents)
    }

    fn address<S: ReadAt>(
        &self,
        window: &mut Window<'_, S>,
        geometry: &Geometry,
        offset: u64,
    ) -> Result<u32, Error> {
        if self.entry == 4 {
            return Ok(u32::from_le_bytes(window.array(offset)?));
        }
        let entry: [u8; 8] = window.array(offset)?;
        match (entry.u32_at(4), entry.u16_at(2), &geometry.device) {
            (address @ NO_BLOCK, _, _) | (address, 0, _) => Ok(address),
            (address, 1, Some(device)) => {
                let blocks = Damage::Blocks { block: address, blocks: 1 };
                device.block(address).ok_or(Error::damaged_at(offset, blocks))
            }
            (_, device, _) => Err(Unsupported::Device(device).into()),
        }
    }
}

/// Lengthens an extent by the one behind it, if that follows in file and image.
fn join(last: &mut Extent, next: &Extent) -> bool {
    let follows = last.file_block + u64::from(last.blocks) == next.file_block
        && u64::from(last.image_block) + u64::from(last.blocks) == u64::from(next.image_block);
    match last.blocks.checked_add(next.blocks) {
        Some(blocks) if follows => {
            last.blocks = blocks;
            true
        }
        _ => false,
    }
}
