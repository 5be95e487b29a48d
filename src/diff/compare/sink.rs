//! Where a blob goes while it is made: in pieces to the task that uploads it.

use std::io::{self, Write};

use tokio::sync::mpsc;
use tonic::codegen::Bytes;

use super::digesting::cancelled;
use crate::diff::pass::Cancel;

/// Size in bytes of a piece: one message to the content store.
const PIECE: usize = 1 << 20;

/// Takes a blob on a thread that may block.
pub(super) struct Sink {
    piece: Vec<u8>,
    pieces: mpsc::Sender<Bytes>,
    cancel: Cancel,
}

impl Sink {
    pub(super) fn new(pieces: mpsc::Sender<Bytes>, cancel: Cancel) -> Self {
        Self { piece: Vec::with_capacity(PIECE), pieces, cancel }
    }

    /// Hands the last piece on. Without this the upload lacks it.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.hand_on()
    }

    /// Waits for the content store where it is slower than we are.
    fn hand_on(&mut self) -> io::Result<()> {
        if self.cancel.is_cancelled() {
            return Err(cancelled());
        }
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.pieces.blocking_send(piece.into()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE {
            self.hand_on()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
