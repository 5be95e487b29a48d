//! The files of an image that bad blocks belong to.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::Serialize;

use crate::cli::tool::names::Names;
use crate::image::erofs::read::{Image, InodePlace, ReadAt};
use crate::image::tree::{BLOCK_SIZE, Extent, InodeId, Node};

/// Where the superblock's block ends, as dm-verity counts them.
const SUPERBLOCK_END: u64 = BLOCK_SIZE;

/// To what a run of bad blocks belongs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Owners {
    /// Files with data in it.
    pub(super) data_of: BTreeSet<String>,
    /// Files and directories whose metadata is in it: inodes, attributes, entries, targets of links.
    pub(super) metadata_of: BTreeSet<String>,
    /// Whether it holds the superblock.
    pub(super) superblock: bool,
}

/// What of an inode is somewhere.
#[derive(Clone, Copy)]
enum Part {
    Data,
    Metadata,
}

/// To what each of these runs of bytes belongs. They ascend and do not touch.
pub(super) fn of<S: ReadAt>(image: &Image<S>, places: &[InodePlace], runs: &[Range<u64>]) -> Vec<Owners> {
    let names = Names::of(image.tree());
    let mut owners = vec![Owners::default(); runs.len()];
    let mut claim = |range: Range<u64>, inode: InodeId, part: Part| {
        let first = runs.partition_point(|run| run.end <= range.start);
        let touched = runs.iter().zip(&mut owners).skip(first).take_while(|(run, _)| run.start < range.end);
        for (_, owners) in touched {
            let set = match part {
                Part::Data => &mut owners.data_of,
                Part::Metadata => &mut owners.metadata_of,
            };
            set.insert(names.path(inode));
        }
    };
    let block_size = image.superblock().block_size();
    let bytes = |extent: &Extent| bytes(extent, block_size);
    for ((inode, place), id) in image.tree().inodes.iter().zip(places).zip((0..).map(InodeId)) {
        claim(place.inode.clone(), id, Part::Metadata);
        place.content.iter().for_each(|extent| claim(bytes(extent), id, Part::Metadata));
        if let Node::Regular(data) = &inode.node {
            data.extents.iter().for_each(|extent| claim(bytes(extent), id, Part::Data));
        }
        if let Some(tail) = image.tail(id) {
            claim(tail.image_offset..tail.image_offset + tail.length, id, Part::Data);
        }
    }
    for (run, owners) in runs.iter().zip(&mut owners) {
        owners.superblock = run.start < SUPERBLOCK_END;
    }
    owners
}

/// Where a run of blocks is in the image.
fn bytes(extent: &Extent, block_size: u64) -> Range<u64> {
    let start = u64::from(extent.image_block) * block_size;
    start..start + u64::from(extent.blocks) * block_size
}
