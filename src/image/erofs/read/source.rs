//! Bytes at positions, and a window of one block over them.

use std::io;

use super::error::{Damage, Error};
use crate::image::tree::BLOCK_SIZE;

const BLOCK: usize = BLOCK_SIZE as usize;

/// Something that bytes can be read from at any position: a file, or memory.
pub trait ReadAt {
    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// What the read failed with; [`io::ErrorKind::UnexpectedEof`] if there are fewer bytes.
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl<S: ReadAt + ?Sized> ReadAt for &S {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        (**self).read_exact_at(offset, buffer)
    }
}

impl ReadAt for [u8] {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let bytes = start.and_then(|start| self.get(start..start.checked_add(buffer.len())?));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.as_slice().read_exact_at(offset, buffer)
    }
}

/// An image through a window of 4096 bytes. Metadata that is used together lies together, so that few
/// reads of a whole block serve many of a few bytes.
pub(super) struct Window<'s, S> {
    source: &'s S,
    /// Size in bytes of what can be read.
    end: u64,
    /// Which 4096 bytes `bytes` holds.
    block: Option<u64>,
    bytes: Box<[u8; BLOCK]>,
}

impl<'s, S: ReadAt> Window<'s, S> {
    pub(super) fn new(source: &'s S, end: u64) -> Self {
        Self { source, end, block: None, bytes: Box::new([0; BLOCK]) }
    }

    /// Fills `buffer` with the bytes of the image from `offset` on.
    pub(super) fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        self.check(offset, buffer.len() as u64)?;
        let (mut position, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            self.load(position / BLOCK_SIZE)?;
            let start = (position % BLOCK_SIZE) as usize;
            let length = rest.len().min(BLOCK - start);
            let (now, later) = rest.split_at_mut(length);
            now.copy_from_slice(&self.bytes[start..start + length]);
            position += length as u64;
            rest = later;
        }
        Ok(())
    }

    /// The `N` bytes of the image from `offset` on.
    pub(super) fn array<const N: usize>(&mut self, offset: u64) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.read(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// The `length` bytes of the image from `offset` on. Nothing is reserved for what the image does
    /// not have.
    pub(super) fn bytes(&mut self, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        self.check(offset, length as u64)?;
        let mut bytes = vec![0; length];
        self.read(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Refuses a range that is not inside the image.
    pub(super) fn check(&self, offset: u64, length: u64) -> Result<(), Error> {
        match offset.checked_add(length) {
            Some(end) if end <= self.end => Ok(()),
            _ => Err(Error::damaged_at(offset, Damage::OutOfImage { bytes: length })),
        }
    }

    fn load(&mut self, block: u64) -> Result<(), Error> {
        if self.block != Some(block) {
            // A failed read leaves nothing that could be taken for the block.
            self.block = None;
            let offset = block * BLOCK_SIZE;
            // Blocks of the image may be smaller, so that the last piece is not always whole.
            let length = self.end.saturating_sub(offset).min(BLOCK_SIZE) as usize;
            let read = self.source.read_exact_at(offset, &mut self.bytes[..length]);
            read.map_err(|source| Error::Read { offset, source })?;
            self.block = Some(block);
        }
        Ok(())
    }
}

/// The little-endian numbers of a record, at offsets that lie inside it.
pub(super) trait Fields {
    fn u16_at(&self, offset: usize) -> u16;
    fn u32_at(&self, offset: usize) -> u32;
    fn u64_at(&self, offset: usize) -> u64;
}

impl<const N: usize> Fields for [u8; N] {
    fn u16_at(&self, offset: usize) -> u16 {
        u16::from_le_bytes(part(self, offset))
    }

    fn u32_at(&self, offset: usize) -> u32 {
        u32::from_le_bytes(part(self, offset))
    }

    fn u64_at(&self, offset: usize) -> u64 {
        u64::from_le_bytes(part(self, offset))
    }
}

fn part<const N: usize>(record: &[u8], offset: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&record[offset..offset + N]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_reads_across_blocks_and_not_past_the_end() {
        let bytes: Vec<u8> = (0..2 * BLOCK).map(|i| (i % 251) as u8).collect();
        let mut window = Window::new(&bytes, bytes.len() as u64);
        assert_eq!(window.bytes(4090, 12).unwrap(), bytes[4090..4102]);
        assert_eq!(window.array::<4>(0).unwrap(), bytes[..4]);
        for (offset, length) in [(8190, 3), (8193, 0), (u64::MAX, 1)] {
            assert!(matches!(window.bytes(offset, length), Err(Error::Damaged { .. })), "{offset}");
        }
    }

    #[test]
    fn an_image_that_is_cut_short_is_a_read_error() {
        let bytes = vec![0; BLOCK + 100];
        let mut window = Window::new(&bytes, 2 * BLOCK_SIZE);
        assert!(matches!(window.array::<4>(BLOCK_SIZE), Err(Error::Read { offset: 4096, .. })));
    }
}
