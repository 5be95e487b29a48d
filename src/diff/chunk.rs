//! Reused buffers that a layer stream is cut into.
//!
//! A chunk is filled once, read by several threads at the same time and goes back to its pool when
//! the last of them lets go. A pass therefore allocates only as many buffers as its channels hold.

use std::fmt;
use std::io::{self, Read};
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

/// Size in bytes of a chunk: large enough that handing one on costs nothing against filling it,
/// small enough to be still in the second-level cache when the next thread reads it.
pub(super) const CHUNK_SIZE: usize = 256 * 1024;

/// Free buffers of one pass.
#[derive(Debug, Default)]
pub(super) struct Pool {
    free: Mutex<Vec<Box<[u8]>>>,
}

/// A filled buffer. Reads as the bytes that were put into it.
pub(super) struct Chunk {
    buffer: Box<[u8]>,
    length: usize,
    pool: Arc<Pool>,
}

impl Pool {
    /// Fills a buffer from `source` until it is full or `source` ends; `None` where there was
    /// nothing left.
    pub(super) fn fill(
        self: &Arc<Self>,
        source: &mut (impl Read + ?Sized),
    ) -> io::Result<Option<Arc<Chunk>>> {
        let buffer = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let buffer = buffer.unwrap_or_else(|| vec![0; CHUNK_SIZE].into_boxed_slice());
        let mut chunk = Chunk { buffer, length: 0, pool: Arc::clone(self) };
        while chunk.length < chunk.buffer.len() {
            match source.read(&mut chunk.buffer[chunk.length..]) {
                Ok(0) => break,
                Ok(read) => chunk.length += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok((chunk.length > 0).then(|| Arc::new(chunk)))
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        self.pool.free.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunk").field("length", &self.length).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_cut_into_full_chunks_and_a_rest() {
        let bytes: Vec<u8> = (0..CHUNK_SIZE + 5).map(|i| i as u8).collect();
        let (mut source, pool) = (bytes.as_slice(), Arc::new(Pool::default()));
        let first = pool.fill(&mut source).unwrap().unwrap();
        let rest = pool.fill(&mut source).unwrap().unwrap();
        assert_eq!((first.len(), rest.len()), (CHUNK_SIZE, 5));
        assert_eq!([&first[..], &rest[..]].concat(), bytes);
        assert!(pool.fill(&mut source).unwrap().is_none());
    }

    #[test]
    fn a_buffer_is_used_again() {
        let pool = Arc::new(Pool::default());
        let first = pool.fill(&mut &b"first"[..]).unwrap().unwrap();
        let address = first.as_ptr();
        drop(first);
        let second = pool.fill(&mut &b"2"[..]).unwrap().unwrap();
        assert_eq!((second.as_ptr(), &second[..]), (address, &b"2"[..]));
    }
}
