//! The tar on its way to two readers: what ours takes goes to mkfs.erofs too.

use std::io::{self, BufRead, Read, Write};
use std::process::ChildStdin;

use crate::image::tree::{BLOCK_SIZE, BlockSink};

/// A stream of which everything that is taken is also written to the program and to a copy.
pub(super) struct Tee<'t, T, C> {
    tar: &'t mut T,
    /// None once the program has closed its end, the reason for which it will tell itself.
    program: Option<ChildStdin>,
    copy: C,
    /// How much of the current piece was written already.
    written: usize,
    failed: Option<io::Error>,
}

impl<'t, T: BufRead, C: Write> Tee<'t, T, C> {
    pub(super) fn new(tar: &'t mut T, program: Option<ChildStdin>, copy: C) -> Self {
        Self { tar, program, copy, written: 0, failed: None }
    }

    /// Closes the program's input, takes the rest of the piece that was copied whole, and says whether
    /// everything could be copied.
    pub(super) fn finish(self) -> io::Result<()> {
        self.tar.consume(self.written);
        self.failed.map_or(Ok(()), Err)
    }

    /// Writes `bytes`, the first of which were not written yet.
    fn write(program: &mut Option<ChildStdin>, copy: &mut C, bytes: &[u8]) -> io::Result<()> {
        copy.write_all(bytes)?;
        match program.as_mut().map(|program| program.write_all(bytes)) {
            Some(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                *program = None;
                Ok(())
            }
            Some(result) => result,
            None => Ok(()),
        }
    }
}

impl<T: BufRead, C: Write> BufRead for Tee<'_, T, C> {
    /// Writes a piece as soon as it is there, so that pieces are large, however little is taken at once.
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let piece = self.tar.fill_buf()?;
        let new = piece.get(self.written..).unwrap_or_default();
        if !new.is_empty()
            && let Err(error) = Self::write(&mut self.program, &mut self.copy, new)
        {
            let kind = error.kind();
            self.failed = Some(error);
            return Err(kind.into());
        }
        self.written = piece.len();
        Ok(piece)
    }

    fn consume(&mut self, amount: usize) {
        self.written = self.written.saturating_sub(amount);
        self.tar.consume(amount);
    }
}

impl<T: BufRead, C: Write> Read for Tee<'_, T, C> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

/// Takes the data of files and keeps none: our reader is asked for the tree only.
#[derive(Debug, Default)]
pub(super) struct Discard {
    bytes: u64,
}

impl BlockSink for Discard {
    /// Counts up to what a block address can name, and no further, as nothing is stored.
    fn next_block(&self) -> u32 {
        u32::try_from(self.bytes.div_ceil(BLOCK_SIZE)).unwrap_or(u32::MAX)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        Ok(())
    }

    fn align(&mut self) -> io::Result<()> {
        self.bytes = self.bytes.next_multiple_of(BLOCK_SIZE);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    #[test]
    fn everything_that_is_taken_is_copied_once() {
        let bytes: Vec<u8> = (0..10_000).map(|i| (i % 251) as u8).collect();
        let mut source = BufReader::with_capacity(1000, bytes.as_slice());
        let mut copy = Vec::new();
        let mut tee = Tee::new(&mut source, None, &mut copy);
        let mut taken = Vec::new();
        tee.by_ref().take(3333).read_to_end(&mut taken).unwrap();
        tee.finish().unwrap();
        // What was copied of the fourth piece is not to be read again.
        source.read_to_end(&mut copy).unwrap();
        assert!(taken == bytes[..3333] && copy == bytes);
    }
}
