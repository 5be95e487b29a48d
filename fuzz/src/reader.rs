//! What must hold for every EROFS image that is accepted.

use std::collections::BTreeSet;
use std::io::{self, Read};

use nexuserofs::image::erofs::read::{Image, Limits};
use nexuserofs::image::tar::write::{Options, write};
use nexuserofs::image::tree::{BLOCK_SIZE, Contents, FileData, InodeId, Node, Tree};

/// Limits that images of a few KiB can reach.
pub(crate) const LIMITS: Limits = Limits { max_inodes: 64, max_metadata_bytes: 64 << 10 };

/// How much of a file is read. A hole can be of any size.
pub(crate) const PIECE: u64 = 64 << 10;

/// Reads `image`, and everything in it.
pub fn check(image: &[u8]) {
    let Ok(read) = Image::open(image, &LIMITS) else { return };
    assert!(read.tree().inodes.len() as u64 <= LIMITS.max_inodes);
    check_shape(read.tree());
    let mut is_small = true;
    for (id, inode) in (0..).map(InodeId).zip(&read.tree().inodes) {
        let Node::Regular(data) = &inode.node else { continue };
        check_extents(data, read.superblock().blocks);
        is_small &= data.size <= PIECE;
        check_contents(&read, id, data);
    }
    if is_small {
        // It may have what no archive can, but then it is said.
        let _ = write(&mut io::sink(), read.tree(), &read, &Options::default());
    }
}

pub(crate) fn check_shape(tree: &Tree) {
    let mut directories = BTreeSet::new();
    let mut todo = vec![Tree::ROOT];
    while let Some(id) = todo.pop() {
        let Node::Directory(directory) = &tree.inode(id).node else { continue };
        assert!(directories.insert(id), "a directory with two names");
        for name in directory.entries.keys() {
            assert!((1..=255).contains(&name.len()) && !name.iter().any(|byte| b"\0/".contains(byte)));
        }
        todo.extend(directory.entries.values());
    }
}

fn check_extents(data: &FileData, blocks: u32) {
    let mut end = 0;
    for extent in &data.extents {
        assert!(extent.blocks > 0 && extent.file_block >= end);
        end = extent.file_block + u64::from(extent.blocks);
        assert!(u64::from(extent.image_block) + u64::from(extent.blocks) <= u64::from(blocks));
    }
    assert!(end <= data.size.div_ceil(BLOCK_SIZE));
}

/// A file has as many bytes as its inode says, unless the image is shorter than its superblock says.
fn check_contents(image: &Image<&[u8]>, id: InodeId, data: &FileData) {
    let file = image.open(id).expect("a regular file");
    match io::copy(&mut file.take(PIECE), &mut io::sink()) {
        Ok(read) => assert_eq!(read, data.size.min(PIECE)),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof),
    }
}
