//! The tar stream: blocks, extended headers and data, with the position kept for messages.

use std::io::{self, BufRead};

use super::error::{Malformed, Part};
use super::header::BLOCK;
use super::problem::Problem;
use crate::image::tree::BlockSink;

/// A reader that knows how far it is.
#[derive(Debug)]
pub(super) struct Stream<'r, R> {
    reader: &'r mut R,
    position: u64,
}

/// Why bytes could not be taken from the stream.
#[derive(Debug)]
pub(super) enum Stop {
    /// The stream ended.
    End,
    /// The stream failed.
    Read(io::Error),
    /// The sink failed.
    Sink(io::Error),
}

/// What came where a block was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockRead {
    /// A whole block.
    Whole,
    /// Nothing: the stream ended at the block's edge.
    Nothing,
}

/// What came where a header was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderRead {
    /// A block that is not all zeros.
    Header,
    /// Two blocks of zeros, or one at the end of the stream.
    EndMark,
    /// Nothing: the stream ended at the block's edge.
    Nothing,
}

impl<'r, R: BufRead> Stream<'r, R> {
    /// Starts at position 0 of the uncompressed stream.
    pub(super) fn new(reader: &'r mut R) -> Self {
        Self { reader, position: 0 }
    }

    /// Bytes taken so far.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Reads the next block.
    pub(super) fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<BlockRead, Stop> {
        let mut filled = 0;
        while let Some(free @ [_, ..]) = block.get_mut(filled..) {
            let wanted = free.len() as u64;
            let copy = |bytes: &[u8]| {
                if let Some(start) = free.get_mut(..bytes.len()) {
                    start.copy_from_slice(bytes);
                }
                Ok(())
            };
            match self.chunk(wanted, copy) {
                Err(Stop::End) if filled == 0 => return Ok(BlockRead::Nothing),
                taken => filled += taken?,
            }
        }
        Ok(BlockRead::Whole)
    }

    /// Reads the next block where a header is due.
    pub(super) fn header_block(&mut self, block: &mut [u8; BLOCK]) -> Result<HeaderRead, Problem> {
        if self.block(block).map_err(Part::Header.stopped())? == BlockRead::Nothing {
            return Ok(HeaderRead::Nothing);
        }
        if *block != [0; BLOCK] {
            return Ok(HeaderRead::Header);
        }
        match self.block(block).map_err(Part::Header.stopped())? {
            BlockRead::Whole if *block != [0; BLOCK] => Err(Malformed::LoneZeroBlock.into()),
            BlockRead::Whole | BlockRead::Nothing => Ok(HeaderRead::EndMark),
        }
    }

    /// Appends `length` bytes to `buffer`. Memory follows what arrives, not what was announced.
    pub(super) fn append_to(&mut self, length: u64, buffer: &mut Vec<u8>) -> Result<(), Stop> {
        self.chunks(length, |bytes| {
            buffer.extend_from_slice(bytes);
            Ok(())
        })
    }

    /// Hands `length` bytes to `sink`, straight from the reader's buffer.
    pub(super) fn copy<S: BlockSink>(&mut self, length: u64, sink: &mut S) -> Result<(), Stop> {
        self.chunks(length, |bytes| sink.append(bytes))
    }

    /// Passes over `length` bytes.
    pub(super) fn skip(&mut self, length: u64) -> Result<(), Stop> {
        self.chunks(length, |_| Ok(()))
    }

    /// Passes over the rest of the block in which data of `length` bytes ended. The padding of the
    /// last member may be missing: all data is there, and Go takes such archives too.
    pub(super) fn skip_padding(&mut self, length: u64) -> Result<(), Stop> {
        let padding = length.wrapping_neg() % BLOCK as u64;
        match self.skip(padding) {
            Err(Stop::End) => Ok(()),
            result => result,
        }
    }

    fn chunks(&mut self, length: u64, mut consume: impl FnMut(&[u8]) -> io::Result<()>) -> Result<(), Stop> {
        let mut rest = length;
        while rest > 0 {
            rest -= self.chunk(rest, &mut consume)? as u64;
        }
        Ok(())
    }

    /// Hands what the reader has ready, at most `limit` bytes, to `consume`.
    fn chunk(&mut self, limit: u64, consume: impl FnOnce(&[u8]) -> io::Result<()>) -> Result<usize, Stop> {
        let ready = loop {
            match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Stop::Read(error)),
                Ok(ready) => break ready,
            }
        };
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        let taken = match ready.get(..wanted.min(ready.len())) {
            None | Some([]) => return Err(Stop::End),
            Some(bytes) => {
                consume(bytes).map_err(Stop::Sink)?;
                bytes.len()
            }
        };
        self.reader.consume(taken);
        self.position += taken as u64;
        Ok(taken)
    }
}
