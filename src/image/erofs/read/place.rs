//! Where in an image an inode is, for those who explain images to people.

use std::ops::Range;

use super::data::{self, Mapping};
use super::error::Error;
use super::geometry::Geometry;
use super::inode::{FileType, Record};
use super::limits::Budget;
use super::source::{ReadAt, Window};
use crate::image::tree::Extent;

/// Where in its image an inode is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InodePlace {
    /// Bytes of the image that hold the inode and what follows it: attributes, an index of chunks, the end
    /// of a file.
    pub inode: Range<u64>,
    /// Where the entries of a directory or the target of a link are, as far as they have blocks of their own.
    /// The data of a regular file is in the tree.
    pub content: Vec<Extent>,
    /// How many attributes it shares with others.
    pub shared_xattrs: u8,
}

impl InodePlace {
    /// The place of the inode of this record.
    pub(super) fn of<S: ReadAt>(
        window: &mut Window<'_, S>,
        geometry: &Geometry,
        record: &Record,
        budget: &mut Budget,
    ) -> Result<Self, Error> {
        budget.bytes(size_of::<Self>() as u64)?;
        let content = match record.kind {
            FileType::Directory | FileType::Symlink => {
                Mapping::read(window, geometry, record, budget)?.extents
            }
            _ => Vec::new(),
        };
        // The header of the attributes (`struct erofs_xattr_ibody_header`) has their number behind a hash.
        let shared_xattrs = match record.xattr_icount {
            0 => 0,
            _ => window.array::<1>(record.xattrs + 4)?[0],
        };
        Ok(Self {
            inode: record.offset..data::end_of_inode(record, geometry.block_size)?,
            content,
            shared_xattrs,
        })
    }
}
