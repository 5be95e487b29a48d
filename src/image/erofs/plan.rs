//! Where everything of an image's metadata goes, worked out before any of it is written.

use super::devices::{Home, Homes};
use super::directory;
use super::error::{Error, Problem};
use super::format::{CHUNK_INDEX_SIZE, DataLayout, INODE_SIZE, NID_UNIT, NO_DATA};
use super::mapping::{Mapping, NO_BLOCK};
use super::walk::{Visit, Walk};
use super::xattr::{self, SharedPool};
use crate::image::tree::{BLOCK_SIZE, Node};

/// Where one inode goes and how its content is stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Offset of the inode in the inode area, in bytes.
    pub(super) offset: u64,
    /// Size of its xattr body in bytes.
    pub(super) xattr_size: u64,
    /// What holds its content.
    pub(super) content: Content,
}

/// What holds the content of an inode.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content {
    /// Data blocks that are in the image already, or nothing at all.
    Stored(DataLayout),
    /// Names of a directory or target of a symbolic link, written with the metadata.
    Metadata(Tail),
}

/// Content that is written with the metadata.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tail {
    /// Size in bytes.
    pub(super) size: u64,
    /// Bytes of it that follow the inode: all beyond the last whole block, or none.
    pub(super) inline: u64,
    /// First of its blocks, counted from the start of the content area.
    pub(super) first_block: u64,
}

impl Tail {
    /// Blocks that it takes in the content area.
    pub(super) fn blocks(self) -> u64 {
        (self.size - self.inline).div_ceil(BLOCK_SIZE)
    }
}

/// The image behind its data: inode area, shared xattrs, content area.
#[derive(Debug)]
pub(super) struct Plan {
    /// By ordinal.
    pub(super) places: Vec<Place>,
    /// First block of the inode area.
    pub(super) meta_block: u32,
    /// First block of the shared xattrs.
    pub(super) xattr_block: u32,
    /// First block of the content area.
    pub(super) content_block: u32,
    /// Blocks of the whole image.
    pub(super) blocks: u32,
}

impl Plan {
    /// Plans the image whose metadata starts with block `meta_block`.
    pub(super) fn new(
        walk: &Walk<'_>,
        pool: &SharedPool<'_>,
        homes: &Homes<'_>,
        meta_block: u32,
    ) -> Result<Self, Error> {
        let mut areas = Areas { inodes: FIRST_INODE, content_blocks: 0 };
        let mut places = Vec::with_capacity(walk.visits.len());
        for (ordinal, visit) in (0..).zip(&walk.visits) {
            let place = areas
                .place(visit, pool, homes.of(visit.id))
                .map_err(|problem| walk.refuse(ordinal, None, problem))?;
            places.push(place);
        }
        let xattr_block = u64::from(meta_block) + areas.inodes.div_ceil(BLOCK_SIZE);
        let content_block = xattr_block + pool.size().div_ceil(BLOCK_SIZE);
        let blocks = content_block.saturating_add(areas.content_blocks);
        // None of the blocks before the end has the address NO_BLOCK, then.
        let address = |block| u32::try_from(block).map_err(|_| Error::TooLarge { blocks });
        Ok(Self {
            places,
            meta_block,
            xattr_block: address(xattr_block)?,
            content_block: address(content_block)?,
            blocks: address(blocks)?,
        })
    }

    /// Number of the inode with this ordinal.
    pub(super) fn nid(&self, ordinal: u32) -> u64 {
        self.places[ordinal as usize].offset / NID_UNIT
    }

    /// The layout that the inode is written with.
    pub(super) fn data_layout(&self, content: Content) -> DataLayout {
        match content {
            Content::Stored(layout) => layout,
            Content::Metadata(tail) => {
                let block = match tail.blocks() {
                    0 => NO_BLOCK,
                    // Lies before `blocks`, which fits.
                    _ => (u64::from(self.content_block) + tail.first_block) as u32,
                };
                if tail.inline > 0 { DataLayout::Inline(block) } else { DataLayout::Plain(block) }
            }
        }
    }
}

/// The first inode, the root, does not get number 0: programs take that for "no inode".
const FIRST_INODE: u64 = NID_UNIT;

/// How far the areas are filled.
struct Areas {
    /// Bytes of the inode area.
    inodes: u64,
    /// Blocks of the content area.
    content_blocks: u64,
}

impl Areas {
    fn place(&mut self, visit: &Visit<'_>, pool: &SharedPool<'_>, home: Home) -> Result<Place, Problem> {
        let xattr_size = pool.body(&visit.inode.metadata.xattrs).size();
        if xattr_size > xattr::BODY_MAX {
            return Err(Problem::Xattrs(xattr_size));
        }
        let head = INODE_SIZE + xattr_size;
        let (content, behind) = match &visit.inode.node {
            Node::Regular(data) => stored(head, Mapping::of(data, home)?),
            Node::Directory(directory) => self.tail(head, directory::size(&directory::names(directory))),
            Node::Symlink(target) => self.tail(head, target.len() as u64),
            Node::CharacterDevice(number) | Node::BlockDevice(number) => {
                (Content::Stored(DataLayout::Device(*number)), 0)
            }
            Node::Fifo | Node::Socket => (Content::Stored(NO_DATA), 0),
        };
        Ok(Place { offset: self.allocate(head + behind), xattr_size, content })
    }

    /// Stores what does not fill a block behind the inode, if inode and all fit into one block.
    fn tail(&mut self, head: u64, size: u64) -> (Content, u64) {
        let rest = size % BLOCK_SIZE;
        let inline = if head + rest <= BLOCK_SIZE { rest } else { 0 };
        let tail = Tail { size, inline, first_block: self.content_blocks };
        self.content_blocks += tail.blocks();
        (Content::Metadata(tail), inline)
    }

    /// Offset for an inode of `size` bytes with what follows it. It does not cross into another
    /// block if it fits into one, and starts a block if it does not.
    fn allocate(&mut self, size: u64) -> u64 {
        let start = self.inodes.next_multiple_of(NID_UNIT);
        let room = BLOCK_SIZE - start % BLOCK_SIZE;
        let offset = if size <= room { start } else { start.next_multiple_of(BLOCK_SIZE) };
        self.inodes = offset + size;
        offset
    }
}

/// How mapped data is stored, and the bytes that its index takes behind `head`.
fn stored(head: u64, mapping: Mapping) -> (Content, u64) {
    match mapping {
        Mapping::Empty => (Content::Stored(NO_DATA), 0),
        Mapping::Contiguous(block) => (Content::Stored(DataLayout::Plain(block)), 0),
        Mapping::Chunked(chunks) => {
            let index = head.next_multiple_of(CHUNK_INDEX_SIZE) - head + chunks.count * CHUNK_INDEX_SIZE;
            (Content::Stored(DataLayout::Chunked(chunks)), index)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tree::{Directory, Extent, FileData, Inode, InodeId, Metadata, Tree};

    fn inode(node: Node) -> Inode {
        Inode { metadata: Metadata::default(), node }
    }

    fn symlink(length: usize) -> Inode {
        inode(Node::Symlink(vec![b'l'; length]))
    }

    /// Offsets and inline sizes of a root with these inodes as entries, and the plan.
    fn plan(entries: Vec<Inode>, meta_block: u32) -> Result<(Vec<(u64, u64)>, Plan), Error> {
        let names =
            (1..).zip(&entries).map(|(id, _)| (format!("{id:03}").into_bytes(), InodeId(id))).collect();
        let root = inode(Node::Directory(Directory { entries: names }));
        let tree = Tree { inodes: [vec![root], entries].concat() };
        let walk = Walk::new(&tree)?;
        let pool = SharedPool::of(&walk.visits).unwrap();
        let plan = Plan::new(&walk, &pool, &Homes::Own { end: meta_block }, meta_block)?;
        let inline = |place: &Place| match place.content {
            Content::Metadata(tail) => tail.inline,
            Content::Stored(_) => 0,
        };
        Ok((plan.places.iter().map(|place| (place.offset, inline(place))).collect(), plan))
    }

    #[test]
    fn the_first_inode_is_not_number_0() {
        let (places, plan) = plan(vec![inode(Node::Fifo)], 5).unwrap();
        // 64 bytes and three entries of 12 bytes with 6 bytes of names, from byte 32 on.
        assert_eq!(places, [(32, 42), (160, 0)]);
        assert_eq!((plan.nid(0), plan.nid(1)), (1, 5));
        assert_eq!((plan.xattr_block, plan.content_block, plan.blocks), (6, 6, 6));
    }

    #[test]
    fn tails_stay_in_one_block() {
        let (places, plan) =
            plan(vec![symlink(3000), symlink(4032), symlink(4033), symlink(4095)], 1).unwrap();
        assert_eq!(places[1..], [(192, 3000), (4096, 4032), (8192, 0), (8256, 0)]);
        let blocks: Vec<_> = plan.places.iter().map(|place| plan.data_layout(place.content)).collect();
        assert_eq!(blocks[2..], [DataLayout::Inline(NO_BLOCK), DataLayout::Plain(4), DataLayout::Plain(5)]);
        assert_eq!(plan.blocks, 6);
    }

    #[test]
    fn an_index_longer_than_a_block_starts_one() {
        let hole = |blocks: u64, extents| inode(Node::Regular(FileData { size: blocks * 4096, extents }));
        let one = Extent { file_block: 1, image_block: 1, blocks: 1 };
        let (places, _) = plan(vec![hole(600, vec![one]), inode(Node::Fifo)], 2).unwrap();
        assert_eq!(places[1..], [(4096, 0), (4096 + 64 + 4800, 0)]);
    }

    #[test]
    fn an_image_ends_before_addresses_do() {
        assert_eq!(plan(vec![], u32::MAX - 1).unwrap().1.blocks, u32::MAX);
        for (entries, meta_block) in [(vec![], u32::MAX), (vec![symlink(4095)], u32::MAX - 1)] {
            let error = plan(entries, meta_block).unwrap_err();
            assert!(matches!(error, Error::TooLarge { blocks: 0x1_0000_0000 }), "{error}");
        }
    }

    #[test]
    fn too_many_xattrs_are_refused_by_path() {
        let xattrs = (0..600).map(|i| (format!("user.{i}").into_bytes(), vec![0; 900])).collect();
        let many = Inode { metadata: Metadata { xattrs, ..Metadata::default() }, node: Node::Fifo };
        let error = plan(vec![many], 1).unwrap_err().to_string();
        assert!(error.contains("/001") && error.contains("at most 262148"), "{error}");
    }
}
