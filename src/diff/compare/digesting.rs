//! A stream that is measured while it passes.

use std::io::{self, Write};

use sha2::{Digest as _, Sha256};

use crate::diff::pass::{Cancel, Measured};
use crate::image::digest::Digest;

/// Passes on what is written, with its digest and length, until the work is cancelled.
pub(super) struct Digesting<W> {
    out: W,
    hash: Sha256,
    bytes: u64,
    cancel: Cancel,
}

impl<W: Write> Digesting<W> {
    pub(super) fn new(out: W, cancel: &Cancel) -> Self {
        Self { out, hash: Sha256::new(), bytes: 0, cancel: cancel.clone() }
    }

    /// What was written to, and what passed.
    pub(super) fn finish(self) -> (W, Measured) {
        let digest = Digest::from_bytes(self.hash.finalize().into());
        (self.out, Measured { digest, bytes: self.bytes })
    }
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(cancelled());
        }
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// What a stream says once the work is cancelled. Not "interrupted": writers try that again.
pub(super) fn cancelled() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the request was cancelled")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_measured_and_stops_when_cancelled() {
        let cancel = Cancel::default();
        let mut stream = Digesting::new(Vec::new(), &cancel);
        stream.write_all(b"layer").unwrap();
        cancel.cancel();
        stream.write_all(b"more").unwrap_err();
        let (out, measured) = stream.finish();
        assert_eq!(out, b"layer");
        assert_eq!(measured, Measured { digest: Digest::of(b"layer"), bytes: 5 });
    }
}
