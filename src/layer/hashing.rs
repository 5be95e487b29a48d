//! Hashes the blocks of a layer's file on a thread of its own while they are written.
//!
//! Whoever writes a layer is about as busy as whoever inflates it. To hash as well would make it the
//! slowest step of the pass, and to read the file again at the end would take longer still.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};

use crate::image::verity::leaves::{Error, Leaves};

/// Largest piece in bytes that is copied to be handed over: what the writer gathers before it writes.
const PIECE: usize = 2 << 20;

/// Pieces that may wait.
const DEPTH: usize = 3;

/// Blocks on their way to the thread.
#[derive(Debug)]
struct Piece {
    offset: u64,
    bytes: Vec<u8>,
}

/// Takes the blocks of one file. Dropped, it ends the thread.
#[derive(Debug)]
pub(super) struct BlockFeed {
    pieces: SyncSender<Piece>,
    /// Buffers that the thread is done with.
    spare: Receiver<Vec<u8>>,
}

/// The thread.
#[derive(Debug)]
pub(super) struct Hashing(JoinHandle<Result<Leaves, Error>>);

/// Starts a thread.
pub(super) fn start() -> io::Result<(BlockFeed, Hashing)> {
    let (pieces, to_hash) = sync_channel::<Piece>(DEPTH);
    let (done, spare) = channel();
    let thread = thread::Builder::new().name("verity".to_owned()).spawn(move || {
        let mut leaves = Leaves::default();
        for Piece { offset, mut bytes } in to_hash {
            leaves.write(offset, &bytes)?;
            bytes.clear();
            // The writer may be done with all that it had.
            let _ = done.send(bytes);
        }
        Ok(leaves)
    })?;
    Ok((BlockFeed { pieces, spare }, Hashing(thread)))
}

impl BlockFeed {
    /// Has blocks hashed that lie at `offset` in the file.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        for (place, piece) in (offset..).step_by(PIECE).zip(bytes.chunks(PIECE)) {
            let mut buffer = self.buffer(0);
            buffer.extend_from_slice(piece);
            self.send(place, buffer)?;
        }
        Ok(())
    }

    /// The same for a whole buffer, which is not copied: an empty one with as much room takes its place.
    pub(super) fn take(&self, offset: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
        let empty = self.buffer(buffer.capacity());
        self.send(offset, std::mem::replace(buffer, empty))
    }

    /// An empty buffer with room for so many bytes.
    fn buffer(&self, room: usize) -> Vec<u8> {
        let mut buffer = self.spare.try_recv().unwrap_or_default();
        buffer.reserve_exact(room);
        buffer
    }

    fn send(&self, offset: u64, bytes: Vec<u8>) -> io::Result<()> {
        let ended = |_| io::Error::other("the thread that hashes the layer ended early");
        self.pieces.send(Piece { offset, bytes }).map_err(ended)
    }
}

impl Hashing {
    /// The digests of all blocks, once the feed is gone.
    pub(super) fn finish(self) -> io::Result<Leaves> {
        let hashed =
            self.0.join().map_err(|_| io::Error::other("the thread that hashes the layer panicked"))?;
        hashed.map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_blocks_however_they_come() {
        let bytes: Vec<u8> = (0..3 * PIECE + 4096).map(|i| (i / 4096 % 251) as u8).collect();
        let expected = Leaves::of(&mut bytes.as_slice()).unwrap();
        let (feed, hashing) = start().unwrap();
        feed.write(4096, &bytes[4096..]).unwrap();
        let mut first = bytes[..4096].to_vec();
        feed.take(0, &mut first).unwrap();
        assert!(first.is_empty() && first.capacity() >= 4096);
        drop(feed);
        assert_eq!(hashing.finish().unwrap().digests(), expected.digests());
    }

    #[test]
    fn what_cannot_be_hashed_is_an_error_of_the_writer_at_the_latest_at_the_end() {
        let (feed, hashing) = start().unwrap();
        while feed.write(1, &[0; 4096]).is_ok() {}
        drop(feed);
        assert!(hashing.finish().is_err());
    }
}
