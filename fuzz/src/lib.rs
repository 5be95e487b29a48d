//! What must hold for every layer that is accepted, whatever the archive: for its tree, and in
//! `image` for what is written of it.

pub mod foreign;
pub mod guest;
mod image;
#[path = "../../tests/erofs/independent.rs"]
mod independent;
#[path = "../../tests/erofs/listing.rs"]
mod listing;
pub mod reader;
pub mod superblock;
pub mod vhost;

use std::collections::BTreeSet;
use std::io::{self, BufReader};

use nexuserofs::image::erofs::Writer;
use nexuserofs::image::tar::{
    ATTRIBUTE_COST, DIRECTORY_COST, Error, INODE_COST, Layer, Limits, MAX_NAME, MAX_PATH, MAX_SYMLINK,
    MAX_XATTRS, WHITEOUT_COST, XATTR_IMPLICIT, XATTR_OPAQUE, read_layer,
};
use nexuserofs::image::tree::{BLOCK_SIZE, BlockSink, DeviceNumber, FileData, Inode, InodeId, Node, Tree};

use image::BoundedImage;

/// Limits that archives of a few KiB can reach.
pub const LIMITS: Limits = Limits {
    max_entries: 64,
    max_metadata_bytes: 64 << 10,
    max_extended_header_bytes: 8 << 10,
    max_sparse_runs: 50,
    max_file_size: 1 << 40,
};

/// Counts blocks and keeps none. Like an image it starts behind the block of the superblock.
struct Counter {
    bytes: u64,
}

impl BlockSink for Counter {
    fn next_block(&self) -> u32 {
        u32::try_from(self.bytes / BLOCK_SIZE).expect("inputs are small")
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn align(&mut self) -> io::Result<()> {
        self.bytes = self.bytes.next_multiple_of(BLOCK_SIZE);
        Ok(())
    }
}

/// Reads `archive` twice, from one buffer and in small pieces, and checks what comes out. The second
/// time it becomes an image, if that is small enough.
pub fn check(archive: &[u8]) {
    let mut counter = Counter { bytes: BLOCK_SIZE };
    let whole = read_layer(&mut &*archive, &mut counter, &LIMITS);
    if let Ok(layer) = &whole {
        check_layer(layer, &counter);
    }
    let mut image = BoundedImage::default();
    let mut writer = Writer::new(&mut image);
    let pieces = read_layer(&mut BufReader::with_capacity(61, archive), &mut writer, &LIMITS);
    match (whole, pieces) {
        (_, Err(Error::Store { source, .. })) => assert!(BoundedImage::is_full(&source)),
        (Ok(layer), Ok(pieces)) => {
            assert_eq!(layer, pieces);
            let finished = writer.finish(&layer.tree, image::UUID);
            image::check(&image, finished, &layer.tree);
        }
        (Err(whole), Err(pieces)) => assert_eq!(whole.to_string(), pieces.to_string()),
        (whole, pieces) => panic!("{whole:?} or {pieces:?}"),
    }
}

fn check_layer(layer: &Layer, sink: &Counter) {
    assert!(layer.entries <= LIMITS.max_entries);
    assert!(sink.bytes.is_multiple_of(BLOCK_SIZE));
    let root = layer.tree.inode(Tree::ROOT);
    match &layer.root {
        Some(metadata) => assert_eq!(metadata, &root.metadata),
        None => assert!(root.metadata.xattrs.contains_key(XATTR_IMPLICIT)),
    }
    let kept: u64 = layer.tree.inodes.iter().skip(1).map(|inode| weight(inode, sink)).sum();
    assert!(kept <= LIMITS.max_metadata_bytes, "{kept} bytes of metadata");
    check_paths(&layer.tree);
}

/// What an inode keeps in memory, at least. Marks that the reader itself sets are not counted.
fn weight(inode: &Inode, sink: &Counter) -> u64 {
    let mut weight = INODE_COST;
    let mut stored = 0;
    for (name, value) in &inode.metadata.xattrs {
        let is_mark = (name == XATTR_OPAQUE || name == XATTR_IMPLICIT) && value == b"y";
        assert!(is_mark || !name.starts_with(b"trusted.overlay.") && !name.starts_with(b"user.overlay."));
        weight += if is_mark { 0 } else { ATTRIBUTE_COST + (name.len() + value.len()) as u64 };
        stored += (name.len() + value.len() + 4).next_multiple_of(4);
    }
    assert!(stored <= MAX_XATTRS + 128);
    assert!(inode.metadata.mode <= 0o7777 && inode.metadata.mtime.nanoseconds < 1_000_000_000);
    match &inode.node {
        Node::Regular(data) => check_data(data, sink),
        Node::Symlink(target) => {
            assert!((1..=MAX_SYMLINK).contains(&target.len()));
            weight += target.len() as u64;
        }
        Node::Directory(_) => weight += DIRECTORY_COST,
        Node::CharacterDevice(DeviceNumber { major: 0, minor: 0 }) => weight += WHITEOUT_COST,
        Node::Socket => panic!("tar has no sockets"),
        _ => {}
    }
    weight
}

fn check_data(data: &FileData, sink: &Counter) {
    assert!(data.size <= LIMITS.max_file_size);
    let mut end = 0;
    for extent in &data.extents {
        assert!(extent.blocks > 0 && extent.file_block >= end);
        end = extent.file_block + u64::from(extent.blocks);
        let image_end = u64::from(extent.image_block) + u64::from(extent.blocks);
        assert!(image_end * BLOCK_SIZE <= sink.bytes);
    }
    assert!(end <= data.size.div_ceil(BLOCK_SIZE));
}

fn check_paths(tree: &Tree) {
    let mut directories = BTreeSet::new();
    let mut todo: Vec<(InodeId, usize)> = vec![(Tree::ROOT, 0)];
    while let Some((id, length)) = todo.pop() {
        assert!(length <= MAX_PATH + 1);
        let Node::Directory(directory) = &tree.inode(id).node else { continue };
        assert!(directories.insert(id), "a directory with two names");
        for (name, &child) in &directory.entries {
            assert!((1..=MAX_NAME).contains(&name.len()));
            assert!(name != b"." && name != b".." && !name.iter().any(|byte| b"\0/".contains(byte)));
            todo.push((child, length + 1 + name.len()));
        }
    }
}
