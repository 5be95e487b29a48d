//! The data of regular files on its way into an image.

use std::fs::File;
use std::io;
use std::iter;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::Error;
use super::entry::Entry;
use crate::image::erofs::sparse_unit;
use crate::image::tree::{BLOCK_SIZE, BlockSink, Extent, FileData};

/// Bytes that are read at a time, and after which a stop is noticed.
const PIECE: usize = 1 << 20;

/// Most runs of data of one file that are told apart; neighbours of further ones are stored as one.
const MAX_RUNS: usize = 65_536;

/// What becomes of the data of regular files.
pub(super) trait Data {
    /// Takes the data of `file`, which is not empty.
    fn take(&mut self, file: &Entry, path: &dyn Fn() -> PathBuf) -> Result<FileData, Error>;
}

/// The data stays where it is.
#[derive(Debug)]
pub(super) struct InPlace;

impl Data for InPlace {
    fn take(&mut self, file: &Entry, _: &dyn Fn() -> PathBuf) -> Result<FileData, Error> {
        Ok(FileData { size: file.size(), extents: Vec::new() })
    }
}

/// The data goes into an image.
pub(super) struct ToImage<'s, S> {
    sink: &'s mut S,
    stop: &'s dyn Fn() -> bool,
    piece: Vec<u8>,
}

impl<'s, S: BlockSink> ToImage<'s, S> {
    pub(super) fn new(sink: &'s mut S, stop: &'s dyn Fn() -> bool) -> Self {
        Self { sink, stop, piece: vec![0; PIECE] }
    }

    /// Copies `range` of a file. What was cut off since the file was looked at is zeros.
    fn copy(&mut self, file: &File, range: Range<u64>, path: &dyn Fn() -> PathBuf) -> Result<(), Error> {
        let mut offset = range.start;
        while offset < range.end {
            if (self.stop)() {
                return Err(Error::Stopped);
            }
            let wanted = (range.end - offset).min(PIECE as u64) as usize;
            let piece = self.piece.get_mut(..wanted).unwrap_or_default();
            let read = read_at(file, piece, offset).map_err(Error::io("read", path))?;
            piece[read..].fill(0);
            self.sink.append(piece).map_err(Error::Sink)?;
            offset += wanted as u64;
        }
        Ok(())
    }
}

impl<S: BlockSink> Data for ToImage<'_, S> {
    fn take(&mut self, entry: &Entry, path: &dyn Fn() -> PathBuf) -> Result<FileData, Error> {
        let size = entry.size();
        let file = entry.open().map_err(Error::io("open", path))?;
        let allocated = u64::try_from(entry.stat.st_blocks).unwrap_or(0).saturating_mul(512);
        let runs = match allocated >= size {
            true => iter::once(0..size).collect(),
            false => runs(&file, size).map_err(Error::io("find the data of", path))?,
        };
        let unit =
            sparse_unit(size, &runs).ok_or_else(|| Error::Scattered { path: path(), runs: runs.len() })?;
        let mut extents = Vec::new();
        for blocks in rounded(&runs, unit, size.div_ceil(BLOCK_SIZE)) {
            let too_large = || Error::Sink(io::ErrorKind::FileTooLarge.into());
            let count = u32::try_from(blocks.end - blocks.start).map_err(|_| too_large())?;
            let image_block = self.sink.next_block();
            extents.push(Extent { file_block: blocks.start, image_block, blocks: count });
            let end = (blocks.end * BLOCK_SIZE).min(size);
            self.copy(&file, blocks.start * BLOCK_SIZE..end, path)?;
            self.sink.align().map_err(Error::Sink)?;
        }
        Ok(FileData { size, extents })
    }
}

/// Fills `piece` from `offset` on as far as the file goes.
fn read_at(file: &File, piece: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = piece.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Where a file has data, in bytes: ascending, not overlapping.
fn runs(file: &File, size: u64) -> io::Result<Vec<Range<u64>>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    let mut gap = 0;
    let mut offset = 0;
    while let Some(start) = next_data(file, offset, size)? {
        let end = seek(file, SeekFrom::Hole(start))?.min(size);
        match runs.last_mut() {
            Some(last) if start - last.end <= gap => last.end = end,
            _ => runs.push(start..end),
        }
        if runs.len() > MAX_RUNS {
            gap = join_neighbours(&mut runs);
        }
        offset = end;
    }
    Ok(runs)
}

fn next_data(file: &File, offset: u64, size: u64) -> io::Result<Option<u64>> {
    if offset >= size {
        return Ok(None);
    }
    match seek(file, SeekFrom::Data(offset)) {
        Ok(start) => Ok(Some(start).filter(|start| *start < size)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Joins the runs with the smaller half of the gaps between them, and returns the largest of these.
fn join_neighbours(runs: &mut Vec<Range<u64>>) -> u64 {
    let mut gaps: Vec<u64> = runs.windows(2).map(|pair| pair[1].start - pair[0].end).collect();
    let middle = gaps.len() / 2;
    let (_, gap, _) = gaps.select_nth_unstable(middle);
    let gap = *gap;
    let mut joined: Vec<Range<u64>> = Vec::new();
    for run in runs.drain(..) {
        match joined.last_mut() {
            Some(last) if run.start - last.end <= gap => last.end = run.end,
            _ => joined.push(run),
        }
    }
    *runs = joined;
    gap
}

/// The runs rounded outward to `unit` bytes, at most to the file's last block, in blocks. None touches
/// another.
fn rounded(runs: &[Range<u64>], unit: u64, blocks: u64) -> Vec<Range<u64>> {
    let per_unit = unit / BLOCK_SIZE;
    let mut rounded: Vec<Range<u64>> = Vec::new();
    for run in runs.iter().filter(|run| !run.is_empty()) {
        let start = run.start / unit * per_unit;
        let end = run.end.div_ceil(unit).saturating_mul(per_unit).min(blocks);
        match rounded.last_mut() {
            Some(last) if start <= last.end => last.end = end,
            _ => rounded.push(start..end),
        }
    }
    rounded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_rounded_joined_and_kept_within_the_file() {
        let rounded = |runs: &[Range<u64>], unit, blocks| {
            let rounded = rounded(runs, unit, blocks).into_iter();
            rounded.map(|run| (run.start, run.end)).collect::<Vec<_>>()
        };
        assert_eq!(rounded(&[0..1, 5000..5001], 4096, 4), [(0, 2)]);
        assert_eq!(rounded(&[0..1, 8192..8193], 4096, 4), [(0, 1), (2, 3)]);
        assert_eq!(rounded(&[0..1, 8192..8193], 8192, 3), [(0, 3)]);
        assert_eq!(rounded(&[], 4096, 3), []);
    }

    #[test]
    fn joining_halves_the_runs_and_loses_none() {
        let mut runs: Vec<_> = (0..100_u64).map(|i| i * i * 10..i * i * 10 + 5).collect();
        let gap = join_neighbours(&mut runs);
        assert!(runs.len() <= 51, "{}", runs.len());
        assert!(runs.windows(2).all(|pair| pair[1].start - pair[0].end > gap));
        for i in 0..100_u64 {
            assert!(runs.iter().any(|run| run.start <= i * i * 10 && i * i * 10 + 5 <= run.end));
        }
    }
}
