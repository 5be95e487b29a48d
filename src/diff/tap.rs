//! The side of a pass where the blob comes in.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

use super::chunk::{Chunk, Pool};
use super::pass::{Cancel, DecodeFailure, Failure, ToDigest};

/// Reads a source to its end, ahead of who takes the chunks. It stops early where nobody takes them
/// any more, and where the pass was cancelled, which the taker looks for itself.
///
/// This is a thread's work, so that the one that inflates does nothing else.
pub(super) fn read_ahead(
    source: &mut (dyn Read + Send),
    cancel: &Cancel,
    chunks: &SyncSender<io::Result<Arc<Chunk>>>,
) {
    let pool = Arc::new(Pool::default());
    while !cancel.is_cancelled() {
        let Some(chunk) = pool.fill(source).transpose() else { return };
        let failed = chunk.is_err();
        if chunks.send(chunk).is_err() || failed {
            return;
        }
    }
}

/// The blob's bytes on their way to the decoder, seen by the digests.
pub(super) struct Tap {
    chunks: Receiver<io::Result<Arc<Chunk>>>,
    digests: SyncSender<ToDigest>,
    cancel: Cancel,
    current: Option<Arc<Chunk>>,
    offset: usize,
    consumed: u64,
    plain: bool,
    /// The current chunk has not been given to the digests yet.
    undigested: bool,
    /// What ended the source early; kept, since a decoder reports it as an error of its own.
    failure: Option<DecodeFailure>,
}

impl Tap {
    /// Takes what [`read_ahead`] sends.
    pub(super) fn new(
        chunks: Receiver<io::Result<Arc<Chunk>>>,
        digests: SyncSender<ToDigest>,
        cancel: Cancel,
    ) -> Self {
        Self {
            chunks,
            digests,
            cancel,
            current: None,
            offset: 0,
            consumed: 0,
            plain: false,
            undigested: false,
            failure: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.current.is_none()
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Bytes that the decoder took.
    pub(super) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Says whether the blob is a tar itself: then one digest serves both streams.
    pub(super) fn set_plain(&mut self, plain: bool) {
        self.plain = plain;
    }

    pub(super) fn digest(&self, chunk: ToDigest) {
        // The digest thread ends only when this sender does; were it gone, joining it tells.
        let _ = self.digests.send(chunk);
    }

    /// Gives the current chunk away whole.
    pub(super) fn take_chunk(&mut self) -> Option<Arc<Chunk>> {
        self.hand_over();
        let chunk = self.current.take()?;
        self.consumed += chunk.len() as u64;
        Some(chunk)
    }

    /// Shows the current chunk to the digests. This waits until the chunk is done with, because
    /// only the first chunk of a blob tells whether it is a plain tar.
    fn hand_over(&mut self) {
        if std::mem::take(&mut self.undigested)
            && let Some(chunk) = &self.current
        {
            let chunk = Arc::clone(chunk);
            self.digest(if self.plain { ToDigest::Both(chunk) } else { ToDigest::Blob(chunk) });
        }
    }

    /// Lets the digests see the rest of the blob and says how decoding ended. Where the consumer
    /// had enough or refused, only the blob is read on; its digest then tells whether it is damaged.
    pub(super) fn finish(mut self, decoded: Result<(), DecodeFailure>) -> Result<(), DecodeFailure> {
        while self.failure.is_none() && matches!(self.fill_buf(), Ok(bytes) if !bytes.is_empty()) {
            self.take_chunk();
        }
        match self.failure.take() {
            Some(failure) => Err(failure),
            None => decoded,
        }
    }

    /// The next chunk of the blob. A source may also end early because the pass was cancelled, so
    /// that is looked for after it was read.
    fn next_chunk(&mut self) -> Result<Option<Arc<Chunk>>, DecodeFailure> {
        let chunk = self.chunks.recv().ok().transpose();
        if self.cancel.is_cancelled() { Err(Failure::Cancelled) } else { chunk.map_err(Failure::Source) }
    }

    /// Notes what ends the blob early. What it returns is for a decoder, which cannot carry more.
    pub(super) fn fail(&mut self, failure: DecodeFailure) -> io::Error {
        self.failure = Some(failure);
        io::Error::other("the blob cannot be read on")
    }
}

impl BufRead for Tap {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.failure.is_some() {
            return Err(io::Error::other("the blob cannot be read on"));
        }
        if self.current.as_ref().is_none_or(|chunk| self.offset == chunk.len()) {
            self.hand_over();
            self.offset = 0;
            self.current = None;
            match self.next_chunk() {
                Ok(chunk) => self.current = chunk,
                Err(failure) => return Err(self.fail(failure)),
            }
            self.undigested = self.current.is_some();
        }
        Ok(self.current.as_ref().map_or(&[], |chunk| &chunk[self.offset..]))
    }

    fn consume(&mut self, amount: usize) {
        self.offset += amount;
        self.consumed += amount as u64;
    }
}

impl Read for Tap {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}
