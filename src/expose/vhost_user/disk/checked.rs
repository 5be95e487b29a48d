//! A file's blocks against its hash tree, each the first time that the guest reads it.
//!
//! A block that was not checked is read into memory of ours, hashed there, and copied to the guest from there: what
//! the guest gets is what was hashed. Later reads of it go straight from the page cache to the guest.
//! `docs/decisions/verify-on-read-once.md` says what that does not see.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use vm_memory::VolatileSlice;

use super::Part;
use super::fill::fill;
use super::tree::{Source, Tree, TreePlace};
use crate::expose::vhost_user::Error;
use crate::expose::vhost_user::pieces::{Cursor, scatter};
use crate::image::digest::Digest;
use crate::image::erofs::owners::{self, Owners};
use crate::image::erofs::read::{Image, Limits};
use crate::image::tree::BLOCK_SIZE;
use crate::image::verity::{Lookup, LookupError, block_digest};

/// Most blocks that are checked in one go: 128 KiB.
const CHECKED_BLOCKS: u64 = 32;

/// Most damaged blocks of a file of which it is told whose they are: its metadata is read for each.
const NAMED_BLOCKS: usize = 16;

/// Most damaged blocks of a file that are reported: a file that was replaced has nothing else.
const REPORTED_BLOCKS: usize = 1024;

/// A block that is not what the hash tree says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedBlock {
    /// What it is a block of.
    pub content: Content,
    /// The file.
    pub file: PathBuf,
    /// The block's first byte in that file.
    pub offset: u64,
    /// Where the tree itself is damaged, if that is why the block cannot be checked.
    pub tree: Option<TreeBlock>,
    /// To what of the image it belongs. Empty after the first 16 blocks of a file, which would take long to tell, and
    /// for merged metadata.
    pub owners: Owners,
}

/// What a file that is checked holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A layer, which comes from a registry.
    Layer,
    /// The merged metadata of layers, which is made on this host.
    MergedMetadata,
}

/// A block of a hash tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeBlock {
    /// The file that the tree is in.
    pub file: PathBuf,
    /// The block's first byte in that file.
    pub offset: u64,
}

/// Told of damaged blocks.
pub(super) struct Report(Box<dyn Fn(&DamagedBlock) + Send + Sync>);

/// What is known of the blocks of a file.
#[derive(Debug)]
pub(super) struct Checked {
    /// Size in bytes of what the tree covers of the file.
    covered: u64,
    /// A bit for each block that was right.
    right: Box<[AtomicU64]>,
    tree: Tree,
    /// Byte of the device that the tree is over at which the tree's file begins.
    start: u64,
    lookup: Mutex<Lookup>,
    /// Blocks that were reported.
    reported: Mutex<HashSet<u64>>,
}

impl Checked {
    /// With nothing of the file `path`, which has so many bytes, checked yet.
    ///
    /// # Errors
    /// If the tree has another form than ours, or is not one over this file.
    pub(super) fn new(tree: Tree, path: &Path, bytes: u64) -> Result<Self, Error> {
        let covered = tree.covered(path, bytes)?;
        let form = || Error::Tree { path: path.to_owned() };
        let lookup = Lookup::new(&tree.parameters).ok_or_else(form)?;
        let start = match tree.place {
            TreePlace::Behind => 0,
            TreePlace::Apart { .. } => lookup.geometry().hash_offset(),
        };
        Ok(Self {
            covered,
            start,
            right: (0..(covered / BLOCK_SIZE).div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            tree,
            lookup: Mutex::new(lookup),
            reported: Mutex::default(),
        })
    }

    /// Fills `pieces` with what lies in `range` of the file, which is as long.
    pub(super) fn read<'m>(
        &self,
        part: &Part,
        range: Range<u64>,
        pieces: &mut [VolatileSlice<'m>],
        report: &Report,
        waiting: &mut dyn FnMut(),
    ) -> io::Result<()> {
        if self.are_right(&range) {
            return fill(&part.file, range.start, pieces, waiting);
        }
        waiting();
        let mut cursor = Cursor::new(pieces);
        let mut run = Vec::new();
        let mut buffer = Vec::new();
        let mut offset = range.start;
        while offset < range.end {
            let end = self.run_end(offset, range.end);
            cursor.take(end - offset, &mut run)?;
            if self.are_right(&(offset..end)) {
                fill(&part.file, offset, &mut run, waiting)?;
            } else {
                self.check(part, offset..end, &mut buffer, report)?;
                let skipped = (offset % BLOCK_SIZE) as usize;
                scatter(buffer.get(skipped..).unwrap_or_default(), &run);
            }
            offset = end;
        }
        Ok(())
    }

    /// Where a run of bytes ends whose blocks are all right, or are all to be checked, and few enough for one go.
    fn run_end(&self, offset: u64, end: u64) -> u64 {
        let is_right = self.are_right(&(offset..offset + 1));
        let mut next = offset - offset % BLOCK_SIZE + BLOCK_SIZE;
        let longest = next.saturating_add((CHECKED_BLOCKS - 1) * BLOCK_SIZE);
        while next < end && self.are_right(&(next..next + 1)) == is_right && (is_right || next < longest) {
            next += BLOCK_SIZE;
        }
        next.min(end)
    }

    /// Whether nothing of this range is to be checked: its blocks were, or the tree does not cover them.
    fn are_right(&self, range: &Range<u64>) -> bool {
        let blocks = range.start / BLOCK_SIZE..range.end.min(self.covered).div_ceil(BLOCK_SIZE);
        blocks
            .into_iter()
            .all(|block| self.bit(block).is_some_and(|(word, bit)| word.load(Ordering::Acquire) & bit != 0))
    }

    /// Reads the blocks of a range that the tree covers into `buffer`, and checks all of them.
    fn check(&self, part: &Part, range: Range<u64>, buffer: &mut Vec<u8>, report: &Report) -> io::Result<()> {
        let first = range.start / BLOCK_SIZE;
        let blocks = range.end.div_ceil(BLOCK_SIZE) - first;
        buffer.resize((blocks * BLOCK_SIZE) as usize, 0);
        part.file.read_exact_at(buffer, first * BLOCK_SIZE)?;
        for (block, bytes) in (first..).zip(buffer.chunks_exact(BLOCK_SIZE as usize)) {
            self.check_block(part, block, bytes, report)?;
        }
        Ok(())
    }

    fn check_block(&self, part: &Part, block: u64, bytes: &[u8], report: &Report) -> io::Result<()> {
        let damaged = match self.expected(part, block) {
            Ok(expected) if expected == block_digest(bytes) => {
                if let Some((word, bit)) = self.bit(block) {
                    word.fetch_or(bit, Ordering::Release);
                }
                return Ok(());
            }
            Ok(_) => None,
            Err(LookupError::Damaged { offset }) => Some(self.tree_block(part, offset)),
            Err(error) => return Err(io::Error::other(error)),
        };
        self.report(part, block, damaged, report);
        Err(io::Error::new(io::ErrorKind::InvalidData, Damaged))
    }

    /// The digest that a block has to have.
    fn expected(&self, part: &Part, block: u64) -> Result<Digest, LookupError> {
        let source = Source { file: self.tree.file(&part.file), start: self.start };
        self.lookup.lock().unwrap_or_else(PoisonError::into_inner).digest_of(&source, block)
    }

    /// A block of the tree, whose reader counts from the start of the device.
    fn tree_block(&self, part: &Part, offset: u64) -> TreeBlock {
        let offset = offset.saturating_sub(self.start);
        TreeBlock { file: self.tree.path(&part.path).to_owned(), offset }
    }

    /// Reports a block, unless it was, or enough were: a guest that asks for it again and again must not fill the log.
    fn report(&self, part: &Part, block: u64, tree: Option<TreeBlock>, report: &Report) {
        let reported = {
            let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
            (reported.len() < REPORTED_BLOCKS && reported.insert(block)).then(|| reported.len())
        };
        let Some(reported) = reported else { return };
        let offset = block * BLOCK_SIZE;
        let (content, owners) = match self.tree.place {
            TreePlace::Apart { .. } => (Content::MergedMetadata, Owners::default()),
            TreePlace::Behind if reported <= NAMED_BLOCKS => (Content::Layer, owners_of(&part.file, offset)),
            TreePlace::Behind => (Content::Layer, Owners::default()),
        };
        (report.0)(&DamagedBlock { content, file: part.path.clone(), offset, tree, owners });
    }

    fn bit(&self, block: u64) -> Option<(&AtomicU64, u64)> {
        Some((self.right.get(usize::try_from(block / 64).ok()?)?, 1 << (block % 64)))
    }
}

/// The files that a block belongs to, as far as the image can still tell.
fn owners_of(file: &File, offset: u64) -> Owners {
    let source = Source { file, start: 0 };
    let survey = Image::survey(&source, &Limits::default());
    let owners = survey.ok().and_then(|(image, places)| {
        let block = offset..offset + BLOCK_SIZE;
        owners::of(&image, &places, &[block]).pop()
    });
    owners.unwrap_or_default()
}

/// Marks the error of a read that was answered to the guest and reported already.
#[derive(Debug, thiserror::Error)]
#[error("a block is not what the hash tree says")]
pub(in crate::expose::vhost_user) struct Damaged;

impl Report {
    pub(super) fn new(report: impl Fn(&DamagedBlock) + Send + Sync + 'static) -> Self {
        Self(Box::new(report))
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Report")
    }
}
