//! Data of regular files on its way into the image.

use std::io::BufRead;
use std::slice;

use super::body::{Body, Layout};
use super::error::{Breach, Part, Quantity};
use super::limits::MAX_FILE_SIZE;
use super::problem::Problem;
use super::sparse::Run;
use super::stream::{Stop, Stream};
use crate::image::tree::{BLOCK_SIZE, BlockSink, Extent, FileData};

/// Zeros for the holes inside a block.
const ZEROS: [u8; BLOCK_SIZE as usize] = [0; BLOCK_SIZE as usize];

/// Copies a file's data into whole blocks of `sink`. Blocks that no run touches are left out.
pub(super) fn store<R: BufRead, S: BlockSink>(
    body: &Body,
    stream: &mut Stream<'_, R>,
    sink: &mut S,
) -> Result<FileData, Problem> {
    let whole = Run { offset: 0, length: body.size };
    let runs = match &body.layout {
        Layout::Dense if body.size == 0 => &[],
        Layout::Dense => slice::from_ref(&whole),
        Layout::Sparse(runs) => runs.as_slice(),
    };
    let mut writer = Writer { stream, sink, extents: Vec::new(), end: 0 };
    for run in runs {
        writer.write(*run)?;
    }
    let extents = writer.finish()?;
    stream.skip_padding(body.stored).map_err(Part::Data.stopped())?;
    Ok(FileData { size: body.size, extents })
}

/// Passes over the data of a file that has no place in the tree.
pub(super) fn skip<R: BufRead>(body: &Body, stream: &mut Stream<'_, R>) -> Result<(), Problem> {
    stream.skip(body.stored).map_err(Part::Data.stopped())?;
    stream.skip_padding(body.stored).map_err(Part::Data.stopped())
}

struct Writer<'w, 'r, R, S> {
    stream: &'w mut Stream<'r, R>,
    sink: &'w mut S,
    extents: Vec<Extent>,
    /// First byte of the file past what is written.
    end: u64,
}

impl<R: BufRead, S: BlockSink> Writer<'_, '_, R, S> {
    fn write(&mut self, run: Run) -> Result<(), Problem> {
        let block = run.offset / BLOCK_SIZE;
        let blocks_so_far = self.end.div_ceil(BLOCK_SIZE);
        if self.extents.is_empty() || block >= blocks_so_far {
            self.start_block(block)?;
            self.zeros(run.offset % BLOCK_SIZE)?;
        } else {
            self.zeros(run.offset - self.end)?;
        }
        self.stream.copy(run.length, self.sink).map_err(Part::Data.stopped())?;
        self.end = run.offset + run.length;
        self.extend()
    }

    /// Goes to the start of a block of the file, in a new extent unless it continues the last one.
    fn start_block(&mut self, block: u64) -> Result<(), Problem> {
        self.sink.align().map_err(sink_failed)?;
        let continues = !self.extents.is_empty() && block == self.end.div_ceil(BLOCK_SIZE);
        if !continues {
            let image_block = self.sink.next_block();
            self.extents.push(Extent { file_block: block, image_block, blocks: 0 });
        }
        Ok(())
    }

    /// Lets the last extent reach to `end`.
    fn extend(&mut self) -> Result<(), Problem> {
        if let Some(extent) = self.extents.last_mut() {
            let blocks = self.end.div_ceil(BLOCK_SIZE) - extent.file_block;
            extent.blocks = u32::try_from(blocks).map_err(|_| too_large(self.end))?;
        }
        Ok(())
    }

    fn zeros(&mut self, count: u64) -> Result<(), Problem> {
        let zeros = usize::try_from(count).ok().and_then(|count| ZEROS.get(..count));
        self.sink.append(zeros.unwrap_or(&ZEROS)).map_err(sink_failed)
    }

    fn finish(self) -> Result<Vec<Extent>, Problem> {
        self.sink.align().map_err(sink_failed)?;
        Ok(self.extents)
    }
}

fn sink_failed(error: std::io::Error) -> Problem {
    Problem::Stopped(Part::Data, Stop::Sink(error))
}

fn too_large(size: u64) -> Breach {
    Breach { what: Quantity::FileSize, value: size, limit: MAX_FILE_SIZE }
}
