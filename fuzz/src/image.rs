//! Images of accepted layers, in memory, and what must hold for them.

use std::io;

use nexuserofs::image::erofs::{Error, ImageSink, Summary, Superblock};
use nexuserofs::image::tree::{BLOCK_SIZE, Node, Tree};

use crate::independent;
use crate::listing::{self, Probe};

/// UUID of every image.
pub(crate) const UUID: [u8; 16] = *b"fuzzed UUID 0123";

/// Most bytes of an image: holes may cost 256 MiB of each file, which no memory limit would tell from
/// a leak.
const CAPACITY: u64 = 16 << 20;

/// An image that fails, like a full disk, when it gets too large.
#[derive(Default)]
pub(crate) struct BoundedImage(Vec<u8>);

impl BoundedImage {
    /// Whether an error is that of a full image.
    pub(crate) fn is_full(error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::StorageFull
    }
}

impl ImageSink for BoundedImage {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if offset + bytes.len() as u64 > CAPACITY {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.write_at(offset, bytes)
    }
}

/// Checks what became of an accepted layer: it can be written, and is read back as it is.
pub(crate) fn check(image: &BoundedImage, finished: Result<Summary, Error>, tree: &Tree) {
    let summary = match finished {
        Ok(summary) => summary,
        Err(Error::Write(error)) if BoundedImage::is_full(&error) => return,
        Err(error) => panic!("an accepted layer cannot be written: {error}"),
    };
    let image = image.0.as_slice();
    let superblock = Superblock::parse(image).expect("a superblock");
    assert_eq!(superblock.image_size(), image.len() as u64);
    assert_eq!((superblock.inodes, superblock.uuid), (summary.inodes, UUID));
    independent::assert_shows(image, &listing::expected(tree), &probes(tree, image));
}

/// The data of each extent, which has to be found at its place in the file.
fn probes(tree: &Tree, image: &[u8]) -> Vec<Probe> {
    let mut probes = Vec::new();
    listing::visit(tree, &mut |path, _, inode| {
        let Node::Regular(data) = &inode.node else { return };
        for extent in &data.extents {
            let offset = extent.file_block * BLOCK_SIZE;
            let length = (u64::from(extent.blocks) * BLOCK_SIZE).min(data.size - offset) as usize;
            let start = extent.image_block as usize * BLOCK_SIZE as usize;
            let bytes = image[start..start + length].to_vec();
            probes.push(Probe { path: path.clone(), offset, bytes });
        }
    });
    probes
}
