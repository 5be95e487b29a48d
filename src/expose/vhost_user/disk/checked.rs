//! A layer's blocks against its hash tree, each the first time that the guest reads it.
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
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use nexuserofs_guest::verity::Parameters;
use vm_memory::VolatileSlice;

use super::Part;
use super::fill::fill;
use crate::expose::vhost_user::pieces::{Cursor, scatter};
use crate::image::erofs::owners::{self, Owners};
use crate::image::erofs::read::{Image, Limits, ReadAt};
use crate::image::tree::BLOCK_SIZE;
use crate::image::verity::{Lookup, LookupError, block_digest};

/// Most blocks that are checked in one go: 128 KiB.
const CHECKED_BLOCKS: u64 = 32;

/// Most damaged blocks of a layer whose files are told: its metadata is read for each.
const NAMED_BLOCKS: usize = 16;

/// A block that is not what the layer's hash tree says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedBlock {
    /// The layer's file.
    pub layer: PathBuf,
    /// The block's first byte in that file.
    pub offset: u64,
    /// Where the tree itself is damaged, if that is why the block cannot be checked: first byte of the tree's block in
    /// that file.
    pub tree: Option<u64>,
    /// To what of the image it belongs. Empty after the first 16 blocks of a layer, which would take long to tell.
    pub owners: Owners,
}

/// Told of damaged blocks.
pub(super) struct Report(Box<dyn Fn(&DamagedBlock) + Send + Sync>);

/// What is known of the blocks of a file.
#[derive(Debug)]
pub(super) struct Checked {
    /// Size in bytes of what the tree covers.
    covered: u64,
    /// A bit for each block that was right.
    right: Box<[AtomicU64]>,
    tree: Mutex<Lookup>,
    /// Blocks that were reported.
    reported: Mutex<HashSet<u64>>,
}

impl Checked {
    /// With nothing checked yet. None for a tree of another form than ours.
    pub(super) fn new(parameters: &Parameters) -> Option<Self> {
        let lookup = Lookup::new(parameters)?;
        let blocks = lookup.geometry().data_blocks().get();
        Some(Self {
            covered: lookup.geometry().hash_offset(),
            right: (0..blocks.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            tree: Mutex::new(lookup),
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
        let expected =
            self.tree.lock().unwrap_or_else(PoisonError::into_inner).digest_of(&Source(&part.file), block);
        let damaged = match expected {
            Ok(expected) if expected == block_digest(bytes) => {
                if let Some((word, bit)) = self.bit(block) {
                    word.fetch_or(bit, Ordering::Release);
                }
                return Ok(());
            }
            Ok(_) => None,
            Err(LookupError::Damaged { offset }) => Some(offset),
            Err(error) => return Err(io::Error::other(error)),
        };
        self.report(part, block, damaged, report);
        Err(io::Error::new(io::ErrorKind::InvalidData, Damaged))
    }

    /// Reports a block, unless it was: a guest that asks for it again and again must not fill the log.
    fn report(&self, part: &Part, block: u64, tree: Option<u64>, report: &Report) {
        let reported = {
            let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
            reported.insert(block).then(|| reported.len())
        };
        let Some(reported) = reported else { return };
        let offset = block * BLOCK_SIZE;
        let owners = if reported <= NAMED_BLOCKS { owners_of(&part.file, offset) } else { Owners::default() };
        (report.0)(&DamagedBlock { layer: part.path.clone(), offset, tree, owners });
    }

    fn bit(&self, block: u64) -> Option<(&AtomicU64, u64)> {
        Some((self.right.get(usize::try_from(block / 64).ok()?)?, 1 << (block % 64)))
    }
}

/// The files that a block belongs to, as far as the image can still tell.
fn owners_of(file: &File, offset: u64) -> Owners {
    let source = Source(file);
    let survey = Image::survey(&source, &Limits::default());
    let owners = survey.ok().and_then(|(image, places)| {
        let block = offset..offset + BLOCK_SIZE;
        owners::of(&image, &places, &[block]).pop()
    });
    owners.unwrap_or_default()
}

/// Marks the error of a read that was answered to the guest and reported already.
#[derive(Debug, thiserror::Error)]
#[error("a block is not what the layer's hash tree says")]
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

/// A file as the tree's reader wants it.
struct Source<'a>(&'a File);

impl ReadAt for Source<'_> {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }
}
