//! Writes an image: data as it comes, then the metadata, then the superblock.

use std::fmt;
use std::io;

use super::area::{BlockArea, ImageSink};
use super::devices::{Device, Homes, TABLE_SLOT};
use super::directory::{self, Link, Target};
use super::error::Error;
use super::format::{CHUNK_INDEX_SIZE, DataLayout, Record, encode_chunk_index};
use super::plan::{Content, Place, Plan, Tail};
use super::superblock::{BLOCK_BITS, INCOMPAT_CHUNKED_FILE, INCOMPAT_DEVICE_TABLE, Superblock};
use super::walk::{Visit, Walk};
use super::xattr::{self, SharedPool};
use crate::image::tree::{BlockSink, Directory, Node, Tree};

/// Writes one image in one pass.
///
/// File data goes in first, through [`BlockSink`]; [`Writer::finish`] appends the metadata. The
/// image is none before that: its superblock is written last.
pub struct Writer<S> {
    area: BlockArea<S>,
}

/// What became of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Size of the image in blocks of 4096 bytes.
    pub blocks: u32,
    /// Number of inodes.
    pub inodes: u64,
    /// First block behind the file data: the first of the metadata.
    pub meta_block: u32,
}

impl<S: ImageSink> Writer<S> {
    /// An image that will be written to `sink`.
    pub fn new(sink: S) -> Self {
        Self { area: BlockArea::new(sink) }
    }

    /// Completes the image with the metadata of `tree`, whose extents name blocks that were
    /// written before. Only inodes that can be reached from the root become part of it.
    ///
    /// # Errors
    /// [`Error::Unrepresentable`] for what EROFS cannot express, [`Error::TooLarge`] for an image
    /// beyond 16 TiB, both before any metadata is written; [`Error::Write`] if the sink failed.
    /// The image is of no use then.
    pub fn finish(mut self, tree: &Tree, uuid: [u8; 16]) -> Result<Summary, Error> {
        self.area.align()?;
        let homes = Homes::Own { end: self.area.next_block() };
        complete(self.area, tree, &homes, uuid)
    }
}

/// Writes an image of metadata only to `sink`. The data of its files stays on `devices`: `numbers` has for
/// each inode of `tree` the number of the device that its extents are on, counted from 1, and 0 where
/// there is no data.
///
/// The kernel mounts it with one `device=` for each device, in this order. From 6.4 on it also takes one
/// device on which the others follow the image without gaps.
///
/// # Errors
/// As [`Writer::finish`]; [`Error::TooManyDevices`] and [`Error::DevicesTooLarge`].
pub fn write_metadata<S: ImageSink>(
    sink: S,
    tree: &Tree,
    devices: &[Device],
    numbers: &[u16],
    uuid: [u8; 16],
) -> Result<Summary, Error> {
    complete(BlockArea::new(sink), tree, &Homes::Devices { table: devices, numbers }, uuid)
}

/// Writes all that follows the file data, and the superblock.
fn complete<S: ImageSink>(
    mut area: BlockArea<S>,
    tree: &Tree,
    homes: &Homes<'_>,
    uuid: [u8; 16],
) -> Result<Summary, Error> {
    let meta_block = area.next_block().saturating_add(homes.table_blocks()?);
    let walk = Walk::new(tree)?;
    let pool = SharedPool::of(&walk.visits).ok_or(Error::TooLarge { blocks: u64::from(u32::MAX) + 1 })?;
    let plan = Plan::new(&walk, &pool, homes, meta_block)?;
    let mut table = Vec::new();
    homes.encode(plan.blocks, &mut table)?;
    area.append(&table)?;
    area.align()?;
    let image = Image { walk: &walk, pool: &pool, plan: &plan, homes };
    image.write_inodes(&mut area)?;
    image.write_shared_xattrs(&mut area)?;
    image.write_content(&mut area)?;
    area.finish(&image.superblock(homes.count()?, uuid).encode())?;
    Ok(Summary { blocks: plan.blocks, inodes: walk.visits.len() as u64, meta_block })
}

impl<S: ImageSink> BlockSink for Writer<S> {
    fn next_block(&self) -> u32 {
        self.area.next_block()
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.area.append(bytes)
    }

    fn align(&mut self) -> io::Result<()> {
        self.area.align()
    }
}

impl<S> fmt::Debug for Writer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

/// The metadata of an image that is about to be written.
struct Image<'t, 'a> {
    walk: &'a Walk<'t>,
    pool: &'a SharedPool<'t>,
    plan: &'a Plan,
    homes: &'a Homes<'a>,
}

impl<'t> Image<'t, '_> {
    fn write_inodes<S: ImageSink>(&self, area: &mut BlockArea<S>) -> io::Result<()> {
        let start = area.position();
        let mut scratch = Vec::new();
        for (ordinal, visit, place) in self.inodes() {
            area.pad_to(start + place.offset)?;
            scratch.clear();
            self.record(ordinal, visit, place).encode(&mut scratch);
            self.pool.body(&visit.inode.metadata.xattrs).encode(&mut scratch);
            area.append(&scratch)?;
            match (place.content, &visit.inode.node) {
                (Content::Metadata(tail), _) if tail.inline > 0 => {
                    self.encode_content(ordinal, visit, &mut scratch);
                    area.append(&scratch[(tail.size - tail.inline) as usize..])?;
                }
                (Content::Stored(DataLayout::Chunked(chunks)), Node::Regular(data)) => {
                    area.pad_to(area.position().next_multiple_of(CHUNK_INDEX_SIZE))?;
                    let device = self.homes.of(visit.id).device;
                    for block in chunks.addresses(&data.extents) {
                        area.append(&encode_chunk_index(device, block))?;
                    }
                }
                _ => {}
            }
        }
        area.align()
    }

    fn write_shared_xattrs<S: ImageSink>(&self, area: &mut BlockArea<S>) -> io::Result<()> {
        self.pool.write(&mut Vec::new(), |entry| area.append(entry))?;
        area.align()
    }

    fn write_content<S: ImageSink>(&self, area: &mut BlockArea<S>) -> io::Result<()> {
        let mut scratch = Vec::new();
        for (ordinal, visit, place) in self.inodes() {
            if let Content::Metadata(tail) = place.content
                && tail.blocks() > 0
            {
                self.encode_content(ordinal, visit, &mut scratch);
                area.append(&scratch[..(tail.size - tail.inline) as usize])?;
                area.align()?;
            }
        }
        Ok(())
    }

    fn superblock(&self, devices: u16, uuid: [u8; 16]) -> Superblock {
        let chunked = |place: &Place| matches!(place.content, Content::Stored(DataLayout::Chunked(_)));
        let has_chunks = self.plan.places.iter().any(chunked);
        Superblock {
            block_bits: BLOCK_BITS,
            // The root is the first inode.
            root_nid: self.plan.nid(0) as u16,
            inodes: self.walk.visits.len() as u64,
            blocks: self.plan.blocks,
            meta_block: self.plan.meta_block,
            xattr_block: if self.pool.size() > 0 { self.plan.xattr_block } else { 0 },
            uuid,
            incompatible: feature(has_chunks, INCOMPAT_CHUNKED_FILE)
                | feature(devices > 0, INCOMPAT_DEVICE_TABLE),
            devices,
            device_slot: if devices > 0 { TABLE_SLOT } else { 0 },
        }
    }

    fn inodes(&self) -> impl Iterator<Item = (u32, &Visit<'t>, Place)> {
        (0..)
            .zip(&self.walk.visits)
            .zip(&self.plan.places)
            .map(|((ordinal, visit), &place)| (ordinal, visit, place))
    }

    fn record(&self, ordinal: u32, visit: &Visit<'t>, place: Place) -> Record<'t> {
        let size = match (&visit.inode.node, place.content) {
            (Node::Regular(data), _) => data.size,
            (_, Content::Metadata(Tail { size, .. })) => size,
            _ => 0,
        };
        Record {
            metadata: &visit.inode.metadata,
            node: &visit.inode.node,
            layout: self.plan.data_layout(place.content),
            size,
            xattr_icount: xattr::icount(place.xattr_size),
            serial: ordinal.saturating_add(1),
            links: visit.links,
        }
    }

    /// Replaces `out` by the names of a directory or the target of a symbolic link.
    fn encode_content(&self, ordinal: u32, visit: &Visit<'t>, out: &mut Vec<u8>) {
        out.clear();
        match &visit.inode.node {
            Node::Directory(directory) => self.encode_directory(ordinal, visit.parent, directory, out),
            Node::Symlink(target) => out.extend_from_slice(target),
            _ => {}
        }
    }

    fn encode_directory(&self, ordinal: u32, parent: u32, directory: &Directory, out: &mut Vec<u8>) {
        let link = |target| {
            let named = match target {
                Target::This => ordinal,
                Target::Parent => parent,
                // The walk visited every child.
                Target::Child(id) => self.walk.ordinal(id).unwrap_or_default(),
            };
            let node = &self.walk.visits[named as usize].inode.node;
            Link { nid: self.plan.nid(named), file_type: directory::file_type(node) }
        };
        directory::encode(&directory::names(directory), link, out);
    }
}

const fn feature(is_used: bool, bit: u32) -> u32 {
    if is_used { bit } else { 0 }
}
