//! Data of regular files on its way into the image.

use std::io::BufRead;
use std::slice;

use super::body::{Body, Layout};
use super::error::{Breach, Fault, Part, Quantity, Refusal};
use super::limits::MAX_FILE_SIZE;
use super::problem::Problem;
use super::sparse::Run;
use super::stream::{Stop, Stream};
use crate::image::erofs::sparse_unit;
use crate::image::tree::{BLOCK_SIZE, BlockSink, Extent, FileData};

/// Zeros for the holes inside a unit.
const ZEROS: [u8; BLOCK_SIZE as usize] = [0; BLOCK_SIZE as usize];

/// Copies a file's data into whole blocks of `sink`. Holes are left out, as far as the layout's
/// [`sparse_unit`] allows.
pub(super) fn store<R: BufRead, S: BlockSink>(
    body: &Body,
    stream: &mut Stream<'_, R>,
    sink: &mut S,
) -> Result<FileData, Problem> {
    let whole = Run { offset: 0, length: body.size };
    let (runs, unit) = match &body.layout {
        Layout::Dense if body.size == 0 => (&[][..], BLOCK_SIZE),
        Layout::Dense => (slice::from_ref(&whole), BLOCK_SIZE),
        Layout::Sparse(runs) => (runs.as_slice(), unit_of(body.size, runs)?),
    };
    let stored_end = body.size.next_multiple_of(BLOCK_SIZE);
    let mut writer = Writer { stream, sink, unit, stored_end, extents: Vec::new(), end: 0 };
    for run in runs {
        writer.write(*run)?;
    }
    let extents = writer.finish()?;
    stream.skip_padding(body.stored).map_err(Part::Data.stopped())?;
    Ok(FileData { size: body.size, extents })
}

/// The unit in which a sparse file is stored, in bytes.
fn unit_of(size: u64, runs: &[Run]) -> Result<u64, Fault> {
    let ranges: Vec<_> = runs.iter().map(|run| run.offset..run.offset + run.length).collect();
    sparse_unit(size, &ranges).ok_or(Fault::Refused(Refusal::ScatteredData { runs: runs.len() }))
}

/// Passes over the data of a file that has no place in the tree.
pub(super) fn skip<R: BufRead>(body: &Body, stream: &mut Stream<'_, R>) -> Result<(), Problem> {
    stream.skip(body.stored).map_err(Part::Data.stopped())?;
    stream.skip_padding(body.stored).map_err(Part::Data.stopped())
}

struct Writer<'w, 'r, R, S> {
    stream: &'w mut Stream<'r, R>,
    sink: &'w mut S,
    /// What data is rounded outward to, in bytes.
    unit: u64,
    /// End of the file's last block, in bytes from its start: nothing is stored past it.
    stored_end: u64,
    extents: Vec<Extent>,
    /// First byte of the file past what is written.
    end: u64,
}

impl<R: BufRead, S: BlockSink> Writer<'_, '_, R, S> {
    fn write(&mut self, run: Run) -> Result<(), Problem> {
        let start = run.offset - run.offset % self.unit;
        if self.extents.is_empty() || start >= self.unit_end() {
            self.start_unit(start)?;
        }
        self.zeros(run.offset - self.end)?;
        self.stream.copy(run.length, self.sink).map_err(Part::Data.stopped())?;
        self.end = run.offset + run.length;
        Ok(())
    }

    /// End of the unit that `end` lies in.
    fn unit_end(&self) -> u64 {
        self.end.next_multiple_of(self.unit).min(self.stored_end)
    }

    /// Goes to `start`, the start of a unit, in a new extent unless it continues the last one.
    fn start_unit(&mut self, start: u64) -> Result<(), Problem> {
        self.finish_unit()?;
        if self.extents.is_empty() || start > self.end {
            let (file_block, image_block) = (start / BLOCK_SIZE, self.sink.next_block());
            self.extents.push(Extent { file_block, image_block, blocks: 0 });
            self.end = start;
        }
        Ok(())
    }

    /// Fills the last unit with zeros and lets the last extent reach to its end.
    fn finish_unit(&mut self) -> Result<(), Problem> {
        let end = self.unit_end();
        let Some(file_block) = self.extents.last().map(|extent| extent.file_block) else { return Ok(()) };
        self.zeros(end - self.end)?;
        self.end = end;
        let blocks = u32::try_from(end / BLOCK_SIZE - file_block).map_err(|_| too_large(end))?;
        if let Some(extent) = self.extents.last_mut() {
            extent.blocks = blocks;
        }
        Ok(())
    }

    fn zeros(&mut self, mut count: u64) -> Result<(), Problem> {
        while count > 0 {
            let length = count.min(BLOCK_SIZE);
            let zeros = usize::try_from(length).ok().and_then(|length| ZEROS.get(..length));
            self.sink.append(zeros.unwrap_or(&ZEROS)).map_err(sink_failed)?;
            count -= length;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<Extent>, Problem> {
        self.finish_unit()?;
        Ok(self.extents)
    }
}

fn sink_failed(error: std::io::Error) -> Problem {
    Problem::Stopped(Part::Data, Stop::Sink(error))
}

fn too_large(size: u64) -> Breach {
    Breach { what: Quantity::FileSize, value: size, limit: MAX_FILE_SIZE }
}
