//! The append-only area of an image: bytes in, large positioned writes out.

use std::io;

use crate::image::tree::{BLOCK_SIZE, BlockSink};

/// Bytes that are gathered before they are written.
const BUFFER_SIZE: usize = 2 << 20;

/// First byte that no image can have: 0xffff_ffff as a block address means "no block".
const END_OF_ADDRESSES: u64 = u32::MAX as u64 * BLOCK_SIZE;

const ZEROS: [u8; BLOCK_SIZE as usize] = [0; BLOCK_SIZE as usize];

/// Where an image goes: positioned writes, for instance into a file.
///
/// A [`Writer`](super::Writer) promises: offset and length are multiples of 4096; the writes
/// come in ascending order, each starts where the one before it ended, the first at offset 4096;
/// only the last write of all, of the superblock's block, goes back to offset 0.
pub trait ImageSink {
    /// Writes all of `bytes` at `offset`, in bytes from the start of the image.
    ///
    /// # Errors
    /// What the write failed with. The image is of no use then.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Writes all of `buffer`, as [`write_at`](Self::write_at) does, and empties it. A sink that goes on using the
    /// bytes may keep the buffer and leave another in its place, so that they need not be copied.
    ///
    /// # Errors
    /// As for [`write_at`](Self::write_at).
    fn write_out(&mut self, offset: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
        self.write_at(offset, buffer)?;
        buffer.clear();
        Ok(())
    }
}

impl<S: ImageSink + ?Sized> ImageSink for &mut S {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        (**self).write_at(offset, bytes)
    }

    fn write_out(&mut self, offset: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
        (**self).write_out(offset, buffer)
    }
}

/// An image in memory.
impl ImageSink for Vec<u8> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let end = start.checked_add(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        if self.len() < end {
            self.resize(end, 0);
        }
        self[start..end].copy_from_slice(bytes);
        Ok(())
    }
}

/// The blocks of an image from block 1 on, filled from front to back.
pub(super) struct BlockArea<S> {
    sink: S,
    buffer: Vec<u8>,
    /// Offset in the image of the first byte of `buffer`.
    written: u64,
}

impl<S: ImageSink> BlockArea<S> {
    pub(super) fn new(sink: S) -> Self {
        Self { sink, buffer: Vec::with_capacity(BUFFER_SIZE), written: BLOCK_SIZE }
    }

    /// Offset in the image of the next appended byte.
    pub(super) fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Fills with zeros up to `position`, which is not behind the area's own.
    pub(super) fn pad_to(&mut self, position: u64) -> io::Result<()> {
        let mut missing = position.saturating_sub(self.position());
        while missing > 0 {
            let step = missing.min(BLOCK_SIZE);
            self.append(&ZEROS[..step as usize])?;
            missing -= step;
        }
        Ok(())
    }

    /// Writes out what is buffered, and then block 0.
    pub(super) fn finish(mut self, first_block: &[u8; BLOCK_SIZE as usize]) -> io::Result<()> {
        self.align()?;
        self.flush()?;
        self.sink.write_at(0, first_block)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let length = self.buffer.len() as u64;
        self.sink.write_out(self.written, &mut self.buffer)?;
        self.written += length;
        Ok(())
    }

    /// Takes as much of `bytes` as goes into one write; returns the rest.
    fn take<'b>(&mut self, bytes: &'b [u8]) -> io::Result<&'b [u8]> {
        if self.buffer.is_empty() && bytes.len() >= BUFFER_SIZE {
            let whole_blocks = bytes.len() - bytes.len() % BLOCK_SIZE as usize;
            let (now, later) = bytes.split_at(whole_blocks);
            self.sink.write_at(self.written, now)?;
            self.written += now.len() as u64;
            return Ok(later);
        }
        let room = BUFFER_SIZE - self.buffer.len();
        let (now, later) = bytes.split_at(bytes.len().min(room));
        self.buffer.extend_from_slice(now);
        if self.buffer.len() == BUFFER_SIZE {
            self.flush()?;
        }
        Ok(later)
    }
}

impl<S: ImageSink> BlockSink for BlockArea<S> {
    fn next_block(&self) -> u32 {
        // `append` keeps the position at or below END_OF_ADDRESSES.
        (self.position() / BLOCK_SIZE) as u32
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() as u64 > END_OF_ADDRESSES - self.position() {
            return Err(too_large());
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = self.take(rest)?;
        }
        Ok(())
    }

    fn align(&mut self) -> io::Result<()> {
        self.pad_to(self.position().next_multiple_of(BLOCK_SIZE))
    }
}

fn too_large() -> io::Error {
    io::Error::new(
        io::ErrorKind::FileTooLarge,
        "the layer does not fit into one EROFS image, which ends at 2^32 - 1 blocks of 4096 bytes (16 TiB): \
         split it into several layers",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps offset and length of each write.
    #[derive(Default)]
    struct Log(Vec<(u64, usize)>);

    impl ImageSink for Log {
        fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
            self.0.push((offset, bytes.len()));
            Ok(())
        }
    }

    const BLOCK: usize = BLOCK_SIZE as usize;

    #[test]
    fn small_appends_become_one_write_and_large_ones_pass_through() {
        let mut log = Log::default();
        let mut area = BlockArea::new(&mut log);
        for _ in 0..3 {
            assert_eq!(area.position() % BLOCK_SIZE, 0);
            area.append(b"abc").unwrap();
            area.align().unwrap();
        }
        assert_eq!(area.next_block(), 4);
        area.append(&vec![1; BUFFER_SIZE]).unwrap();
        area.append(&vec![2; BUFFER_SIZE - 3 * BLOCK]).unwrap();
        area.append(&vec![3; BUFFER_SIZE + BLOCK + 5]).unwrap();
        area.finish(&[0; BLOCK]).unwrap();
        let block = BLOCK_SIZE;
        let buffer = BUFFER_SIZE as u64;
        assert_eq!(
            log.0,
            [
                (block, BUFFER_SIZE),
                (block + buffer, BUFFER_SIZE),
                (block + 2 * buffer, BUFFER_SIZE + BLOCK),
                (2 * block + 3 * buffer, BLOCK),
                (0, BLOCK),
            ]
        );
    }

    #[test]
    fn bytes_arrive_in_order() {
        let mut image = Vec::new();
        let mut area = BlockArea::new(&mut image);
        let data: Vec<u8> = (0..3 * BUFFER_SIZE + 77).map(|i| (i % 251) as u8).collect();
        for piece in data.chunks(100_003) {
            area.append(piece).unwrap();
        }
        area.finish(&[7; BLOCK]).unwrap();
        assert_eq!(image[..BLOCK], [7; BLOCK]);
        assert_eq!(image[BLOCK..BLOCK + data.len()], data);
        assert_eq!(image.len() % BLOCK, 0);
        assert!(image[BLOCK + data.len()..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn a_sink_may_keep_the_buffers() {
        #[derive(Default)]
        struct Keeper(Vec<(u64, Vec<u8>)>);
        impl ImageSink for Keeper {
            fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
                self.0.push((offset, bytes.to_vec()));
                Ok(())
            }

            fn write_out(&mut self, offset: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
                self.0.push((offset, std::mem::take(buffer)));
                Ok(())
            }
        }
        let data: Vec<u8> = (0..2 * BUFFER_SIZE + 5 * BLOCK).map(|i| (i % 251) as u8).collect();
        let (mut keeper, mut image) = (Keeper::default(), Vec::new());
        let mut area = BlockArea::new(&mut keeper);
        data.chunks(100_003).for_each(|piece| area.append(piece).unwrap());
        area.finish(&[0; BLOCK]).unwrap();
        keeper.0.iter().for_each(|(offset, bytes)| image.write_at(*offset, bytes).unwrap());
        assert_eq!(image[BLOCK..], data);
        assert_eq!(keeper.0.len(), 4, "two whole buffers, the rest, and the first block");
    }

    #[test]
    fn the_last_address_is_reached_and_not_passed() {
        let mut area = BlockArea::new(Log::default());
        area.written = END_OF_ADDRESSES - BLOCK_SIZE;
        assert_eq!(area.next_block(), u32::MAX - 1);
        area.append(&[1; BLOCK - 1]).unwrap();
        area.align().unwrap();
        assert_eq!(area.next_block(), u32::MAX);
        assert_eq!(area.append(&[1]).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(area.next_block(), u32::MAX);
    }

    #[test]
    fn a_failed_write_is_reported() {
        struct Full;
        impl ImageSink for Full {
            fn write_at(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
                Err(io::ErrorKind::StorageFull.into())
            }
        }
        let mut area = BlockArea::new(Full);
        area.append(&[1; 10]).unwrap();
        assert_eq!(area.append(&vec![1; BUFFER_SIZE]).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(area.finish(&[0; BLOCK]).unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
