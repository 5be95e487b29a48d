//! The files of an image that some of its bytes belong to: whoever finds damage says what is lost.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use serde::Serialize;

use crate::image::erofs::read::{Image, InodePlace, ReadAt};
use crate::image::names::Names;
use crate::image::tree::{BLOCK_SIZE, Extent, InodeId, Node};

/// Where the superblock's block ends, as dm-verity counts them.
const SUPERBLOCK_END: u64 = BLOCK_SIZE;

/// To what a run of bytes belongs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Owners {
    /// Files with data in it.
    pub data_of: BTreeSet<String>,
    /// Files and directories whose metadata is in it: inodes, attributes, entries, targets of links.
    pub metadata_of: BTreeSet<String>,
    /// Whether it holds the superblock.
    pub superblock: bool,
}

/// Most names that are shown of each kind.
const NAMES_MAX: usize = 8;

impl fmt::Display for Owners {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |what: &str, names: &BTreeSet<String>| {
            let shown: Vec<&str> = names.iter().take(NAMES_MAX).map(String::as_str).collect();
            let more = names.len().saturating_sub(NAMES_MAX);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            (!names.is_empty()).then(|| format!("{what} {}{more}", shown.join(", ")))
        };
        let parts = [
            self.superblock.then(|| "the superblock".to_owned()),
            list("data of", &self.data_of),
            list("metadata of", &self.metadata_of),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if parts.is_empty() {
            formatter.write_str("no file that could be told")
        } else {
            formatter.write_str(&parts.join("; "))
        }
    }
}

/// What of an inode is somewhere.
#[derive(Clone, Copy)]
enum Part {
    Data,
    Metadata,
}

/// To what each of these runs of bytes belongs. They ascend and do not touch.
#[must_use]
pub fn of<S: ReadAt>(image: &Image<S>, places: &[InodePlace], runs: &[Range<u64>]) -> Vec<Owners> {
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
