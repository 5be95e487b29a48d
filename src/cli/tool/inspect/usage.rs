//! What in an image takes how much.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::image::erofs::read::{Image, InodePlace, ReadAt};
use crate::image::overlay;
use crate::image::tree::{Extent, InodeId, Node, Tree};

/// Bytes and numbers.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Usage {
    /// Bytes of blocks with data of regular files. Blocks that files share count once.
    pub(super) data_bytes: u64,
    /// All other bytes of the image, the data of compressed files among them.
    pub(super) metadata_bytes: u64,
    /// Bytes of files that are stored nowhere, because they are zero.
    pub(super) hole_bytes: u64,
    /// Bytes of files that are stored behind their inodes.
    pub(super) inline_bytes: u64,
    pub(super) directories: u64,
    pub(super) regular_files: u64,
    /// Of these, those whose data is compressed.
    pub(super) compressed_files: u64,
    /// Bytes that these have when they are read.
    pub(super) compressed_file_bytes: u64,
    pub(super) symbolic_links: u64,
    pub(super) devices: u64,
    pub(super) fifos: u64,
    pub(super) sockets: u64,
    /// Entries that say that a name of a layer below is gone.
    pub(super) whiteouts: u64,
    /// Directories that hide what the layers below have in them.
    pub(super) opaque_directories: u64,
    /// Further names of inodes that have one already.
    pub(super) hard_links: u64,
    /// Extended attributes of all inodes.
    pub(super) xattrs: u64,
    /// Of these, those that are stored once for several inodes.
    pub(super) shared_xattrs: u64,
}

impl Usage {
    /// What is in `image`, which has `image_bytes` bytes and its inodes in these places.
    pub(super) fn of<S: ReadAt>(image: &Image<S>, places: &[InodePlace], image_bytes: u64) -> Self {
        let mut usage = Self::default();
        let mut data = Vec::new();
        let block_size = image.superblock().block_size();
        for (id, inode) in (0..).map(InodeId).zip(&image.tree().inodes) {
            usage.xattrs += inode.metadata.xattrs.len() as u64;
            match &inode.node {
                Node::Directory(_) => usage.directories += 1,
                Node::Regular(file) if image.is_compressed_file(id) => {
                    usage.regular_files += 1;
                    usage.compressed_files += 1;
                    usage.compressed_file_bytes += file.size;
                }
                Node::Regular(file) => {
                    usage.regular_files += 1;
                    data.extend(&file.extents);
                    let tail = image.tail(id).map_or(0, |tail| tail.length);
                    usage.inline_bytes += tail;
                    let stored: u64 = file.extents.iter().map(|extent| u64::from(extent.blocks)).sum();
                    let blocks = file.size.saturating_sub(tail).div_ceil(block_size);
                    usage.hole_bytes += blocks.saturating_sub(stored) * block_size;
                }
                Node::Symlink(_) => usage.symbolic_links += 1,
                Node::CharacterDevice(_) | Node::BlockDevice(_) => usage.devices += 1,
                Node::Fifo => usage.fifos += 1,
                Node::Socket => usage.sockets += 1,
            }
        }
        usage.count_entries(image.tree());
        usage.shared_xattrs = places.iter().map(|place| u64::from(place.shared_xattrs)).sum();
        usage.data_bytes = union(&mut data) * block_size;
        // Data may follow the image, as a tar does its index.
        data.retain(|run| u64::from(run.image_block) * block_size < image_bytes);
        usage.metadata_bytes = image_bytes.saturating_sub(union(&mut data) * block_size);
        usage
    }

    fn count_entries(&mut self, tree: &Tree) {
        let mut named = BTreeSet::new();
        for inode in &tree.inodes {
            let Node::Directory(directory) = &inode.node else { continue };
            self.opaque_directories += u64::from(overlay::is_opaque(&inode.metadata));
            let by_xattr = overlay::has_xattr_whiteouts(&inode.metadata);
            for child in directory.entries.values() {
                self.whiteouts += u64::from(overlay::is_whiteout(tree.inode(*child), by_xattr));
                self.hard_links += u64::from(!named.insert(*child));
            }
        }
    }
}

/// The number of blocks that are in any of these runs.
fn union(runs: &mut [&Extent]) -> u64 {
    runs.sort_by_key(|run| run.image_block);
    let (mut blocks, mut end) = (0, 0);
    for run in runs {
        let (start, run_end) =
            (u64::from(run.image_block), u64::from(run.image_block) + u64::from(run.blocks));
        blocks += run_end.saturating_sub(start.max(end));
        end = end.max(run_end);
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_several_files_count_once() {
        let run = |image_block, blocks| Extent { file_block: 0, image_block, blocks };
        let runs = [run(5, 5), run(1, 2), run(6, 2), run(9, 3), run(1, 2)];
        assert_eq!(union(&mut runs.iter().collect::<Vec<_>>()), 2 + 7);
        assert_eq!(union(&mut []), 0);
    }
}
