//! The data of one file.

use std::io::{self, Read};

use super::data::Tail;
use super::source::ReadAt;
use crate::image::tree::{Extent, FileData};

/// Reads a file from its first byte to its size, holes as zeros.
pub(super) struct FileReader<'i, S> {
    source: &'i S,
    block_size: u64,
    size: u64,
    /// Runs that are not behind `position`.
    extents: std::slice::Iter<'i, Extent>,
    tail: Option<Tail>,
    position: u64,
    piece: Piece,
}

/// The stretch of a file that is being read.
#[derive(Clone, Copy)]
struct Piece {
    /// Where it ends in the file.
    end: u64,
    /// Where its next byte is in the image; `None` in a hole.
    place: Option<u64>,
}

impl<'i, S: ReadAt> FileReader<'i, S> {
    pub(super) fn new(source: &'i S, block_size: u64, data: &'i FileData, tail: Option<Tail>) -> Self {
        let (extents, piece) = (data.extents.iter(), Piece { end: 0, place: None });
        Self { source, block_size, size: data.size, extents, tail, position: 0, piece }
    }

    /// The stretch that begins at `position`, which is the end of the last one and not of the file.
    fn next_piece(&mut self) -> Piece {
        let tail_start = self.tail.map_or(self.size, |tail| tail.file_offset);
        if let Some(tail) = self.tail.filter(|_| self.position == tail_start) {
            return Piece { end: self.size, place: Some(tail.image_offset) };
        }
        let next = self.extents.as_slice().first();
        let start = next.map_or(tail_start, |extent| extent.file_block * self.block_size);
        match next {
            Some(extent) if start == self.position => {
                self.extents.next();
                let end = (extent.file_block + u64::from(extent.blocks)) * self.block_size;
                let place = u64::from(extent.image_block) * self.block_size;
                Piece { end: end.min(self.size), place: Some(place) }
            }
            _ => Piece { end: start, place: None },
        }
    }
}

impl<S: ReadAt> Read for FileReader<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.position == self.size {
            return Ok(0);
        }
        if self.position == self.piece.end {
            self.piece = self.next_piece();
        }
        let left = self.piece.end - self.position;
        let length = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let part = &mut buffer[..length];
        match &mut self.piece.place {
            None => part.fill(0),
            Some(place) => {
                self.source.read_exact_at(*place, part)?;
                *place += length as u64;
            }
        }
        self.position += length as u64;
        Ok(length)
    }
}
