//! One pass over a layer blob: read → inflate → { digests ; consumer }.
//!
//! Four threads share the work, so that a layer takes about as long as its slowest step, which is
//! to inflate it. Nothing is read twice and nothing is spooled:
//!
//! ```text
//! source ──→ tap ──→ inflate ──→ consumer (tar reader, on the calling thread)
//!             └────────┴──────→ digests (blob and tar)
//! ```
//!
//! Memory is bounded by the channels: [`DEPTH`] chunks each.

use std::convert::Infallible;
use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use sha2::{Digest as _, Sha256};

use super::chunk::{Chunk, Pool};
use super::media::{self, Compression, Declared};
use super::tap::{self, Tap};
use crate::image::digest::Digest;

/// Chunks that may wait between two threads.
const DEPTH: usize = 16;

/// Chunks of the blob that are read before the decoder asks for them.
const READ_AHEAD: usize = 4;

/// Largest window of a zstd frame, as a power of two: 128 MiB, what `zstd -d` accepts by default.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Set from outside to end a pass early.
#[derive(Clone, Debug, Default)]
pub(super) struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Ends the pass at its next chunk.
    pub(super) fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Digest and length of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Measured {
    pub(super) digest: Digest,
    pub(super) bytes: u64,
}

/// Why a pass gave no result.
#[derive(Debug)]
pub(super) enum Failure<E> {
    /// The pass was cancelled.
    Cancelled,
    /// The blob could not be read.
    Source(io::Error),
    /// The content of the blob is not what its media type promises.
    Content(BadContent),
    /// The consumer refused the tar.
    Consume(E),
    /// A thread of the pass ended by a panic.
    Panicked(&'static str),
}

/// Content that is not what its media type promises.
#[derive(Debug, thiserror::Error)]
pub enum BadContent {
    /// It is compressed in another way.
    #[error("its media type says {declared}, its content is {found}")]
    Mislabelled {
        /// What the media type says.
        declared: Compression,
        /// What the first bytes show.
        found: Compression,
    },
    /// It is truncated or damaged.
    #[error("cannot decompress {compression} at byte {offset} of the blob")]
    Decode {
        /// How it is compressed.
        compression: Compression,
        /// Bytes of the blob that were read before.
        offset: u64,
        /// What the decoder says.
        source: io::Error,
    },
}

/// What a pass found. The digest of the blob holds also where the content was refused, so that a
/// damaged blob is told apart from a bad archive.
#[derive(Debug)]
pub(super) struct Pass<T, E> {
    pub(super) result: Result<T, Failure<E>>,
    pub(super) blob: Measured,
    pub(super) tar: Measured,
}

/// Runs one pass over `source`, giving the uncompressed tar to `consume` on the calling thread.
///
/// The digests cover both streams to their end, past what `consume` reads.
pub(super) fn run<T, E>(
    source: &mut (dyn Read + Send),
    declared: Declared,
    cancel: &Cancel,
    consume: impl FnOnce(&mut TarStream) -> Result<T, E>,
) -> Pass<T, E> {
    let (digests, to_digest) = sync_channel(DEPTH);
    let (chunks, to_consume) = sync_channel(DEPTH);
    let (read, to_decode) = sync_channel(READ_AHEAD);
    thread::scope(|scope| {
        let reader = scope.spawn(move || tap::read_ahead(source, cancel, &read));
        let digester = scope.spawn(move || digest(&to_digest));
        let decoder = scope.spawn(move || {
            let mut tap = Tap::new(to_decode, digests, cancel.clone());
            let decoded = decode(&mut tap, declared, &chunks);
            if decoded.is_err() {
                // The consumer must not take the end of what arrived for the end of the archive.
                let _ = chunks.send(Err(UpstreamFailed));
            }
            drop(chunks);
            tap.finish(decoded)
        });
        let mut stream = TarStream { chunks: to_consume, current: None, offset: 0 };
        let consumed = consume(&mut stream).inspect(|_| stream.drain());
        drop(stream);
        let decoded = decoder.join().unwrap_or(Err(Failure::Panicked("inflate")));
        let unread = reader.join().is_err();
        let measured = digester.join();
        let undigested = measured.is_err();
        let (blob, tar) = measured.unwrap_or_else(|_| (measure(Sha256::new(), 0), measure(Sha256::new(), 0)));
        let result = match (decoded, consumed) {
            _ if unread => Err(Failure::Panicked("read")),
            (Err(failure), _) => Err(failure.widen()),
            (Ok(()), Err(error)) => Err(Failure::Consume(error)),
            (Ok(()), Ok(_)) if undigested => Err(Failure::Panicked("digest")),
            (Ok(()), Ok(value)) => Ok(value),
        };
        Pass { result, blob, tar }
    })
}

/// Marks a stream that ended before its time.
#[derive(Clone, Copy, Debug)]
struct UpstreamFailed;

/// The uncompressed tar, as the consumer reads it.
#[derive(Debug)]
pub(super) struct TarStream {
    chunks: Receiver<Result<Arc<Chunk>, UpstreamFailed>>,
    current: Option<Arc<Chunk>>,
    offset: usize,
}

impl TarStream {
    /// Lets the rest of the stream pass, so that the digests see it.
    fn drain(&mut self) {
        self.current = None;
        while let Ok(Ok(_)) = self.chunks.recv() {}
    }
}

impl BufRead for TarStream {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.current.as_ref().is_none_or(|chunk| self.offset == chunk.len()) {
            self.offset = 0;
            self.current = match self.chunks.recv() {
                Ok(Ok(chunk)) => Some(chunk),
                Ok(Err(UpstreamFailed)) => return Err(io::Error::other("the layer stream broke off")),
                Err(_) => None,
            };
        }
        Ok(self.current.as_ref().map_or(&[], |chunk| &chunk[self.offset..]))
    }

    fn consume(&mut self, amount: usize) {
        self.offset += amount;
    }
}

impl Read for TarStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

/// A chunk on its way to the digests.
pub(super) enum ToDigest {
    Blob(Arc<Chunk>),
    Tar(Arc<Chunk>),
    /// Both at once: the blob is a plain tar.
    Both(Arc<Chunk>),
}

fn digest(chunks: &Receiver<ToDigest>) -> (Measured, Measured) {
    let (mut blob, mut blob_bytes) = (Sha256::new(), 0);
    let (mut tar, mut tar_bytes) = (Sha256::new(), 0);
    let mut plain = false;
    for chunk in chunks {
        match chunk {
            ToDigest::Blob(chunk) => {
                blob.update(&chunk[..]);
                blob_bytes += chunk.len() as u64;
            }
            ToDigest::Tar(chunk) => {
                tar.update(&chunk[..]);
                tar_bytes += chunk.len() as u64;
            }
            ToDigest::Both(chunk) => {
                plain = true;
                blob.update(&chunk[..]);
                blob_bytes += chunk.len() as u64;
            }
        }
    }
    let blob = measure(blob, blob_bytes);
    (blob, if plain { blob } else { measure(tar, tar_bytes) })
}

fn measure(hash: Sha256, bytes: u64) -> Measured {
    Measured { digest: Digest::from_bytes(hash.finalize().into()), bytes }
}

/// Why decoding ended early: what the consumer cannot cause.
pub(super) type DecodeFailure = Failure<Infallible>;

impl DecodeFailure {
    fn widen<E>(self) -> Failure<E> {
        match self {
            Self::Cancelled => Failure::Cancelled,
            Self::Source(error) => Failure::Source(error),
            Self::Content(bad) => Failure::Content(bad),
            Self::Panicked(thread) => Failure::Panicked(thread),
            Self::Consume(never) => match never {},
        }
    }
}

type Chunks = SyncSender<Result<Arc<Chunk>, UpstreamFailed>>;

fn decode(tap: &mut Tap, declared: Declared, chunks: &Chunks) -> Result<(), DecodeFailure> {
    let found = media::sniffed(tap.fill_buf().map_err(Failure::Source)?);
    let compression = match declared {
        Declared::Unclear => found,
        Declared::As(compression) if compression == found => compression,
        // An empty blob has no first bytes to tell it by; let the decoder call it truncated.
        Declared::As(compression) if tap.is_empty() => compression,
        Declared::As(declared) => return Err(Failure::Content(BadContent::Mislabelled { declared, found })),
    };
    tap.set_plain(compression == Compression::None);
    let pumped = match compression {
        Compression::None => return forward(tap, chunks).map_err(Failure::Source),
        Compression::Gzip => pump(&mut flate2::bufread::MultiGzDecoder::new(&mut *tap), chunks),
        Compression::Zstd => zstd::stream::read::Decoder::with_buffer(&mut *tap)
            .and_then(|mut decoder| decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map(|()| decoder))
            .and_then(|mut decoder| pump(&mut decoder, chunks)),
    };
    let offset = tap.consumed();
    pumped.map_err(|source| Failure::Content(BadContent::Decode { compression, offset, source }))
}

/// Hands a plain tar on without a copy, until it ends or the consumer has gone.
fn forward(tap: &mut Tap, chunks: &Chunks) -> io::Result<()> {
    while !tap.fill_buf()?.is_empty() {
        let Some(chunk) = tap.take_chunk() else { break };
        if chunks.send(Ok(chunk)).is_err() {
            break;
        }
    }
    Ok(())
}

/// Decompresses into chunks until the stream ends or the consumer has gone. A small blob can give a
/// vast tar, so cancelling is looked for at each chunk of either.
fn pump(decoder: &mut impl Decoder, chunks: &Chunks) -> io::Result<()> {
    let pool = Arc::new(Pool::default());
    while let Some(chunk) = pool.fill(decoder)? {
        let tap = decoder.tap();
        if tap.is_cancelled() {
            return Err(tap.fail(Failure::Cancelled));
        }
        tap.digest(ToDigest::Tar(Arc::clone(&chunk)));
        if chunks.send(Ok(chunk)).is_err() {
            break;
        }
    }
    Ok(())
}

/// A decompressor that reads from a [`Tap`].
trait Decoder: Read {
    fn tap(&mut self) -> &mut Tap;
}

impl Decoder for flate2::bufread::MultiGzDecoder<&mut Tap> {
    fn tap(&mut self) -> &mut Tap {
        self.get_mut()
    }
}

impl Decoder for zstd::stream::read::Decoder<'_, &mut Tap> {
    fn tap(&mut self) -> &mut Tap {
        self.get_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const TAR: Declared = Declared::As(Compression::None);
    const GZIP: Declared = Declared::As(Compression::Gzip);
    const ZSTD: Declared = Declared::As(Compression::Zstd);

    /// Longer than all channels together, so that a pass must flow.
    fn plain() -> Vec<u8> {
        let mut state = 1_u32;
        let noise = std::iter::repeat_with(move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        noise.take(3 * DEPTH * super::super::chunk::CHUNK_SIZE + 7).collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::stream::encode_all(bytes, 1).unwrap()
    }

    fn read_all(tar: &mut TarStream) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        tar.read_to_end(&mut bytes).map(|_| bytes)
    }

    fn pass(blob: &[u8], declared: Declared) -> Pass<Vec<u8>, io::Error> {
        run(&mut &blob[..], declared, &Cancel::default(), read_all)
    }

    fn measured(bytes: &[u8]) -> Measured {
        Measured { digest: Digest::of(bytes), bytes: bytes.len() as u64 }
    }

    #[test]
    fn every_compression_gives_the_tar_and_both_digests() {
        let plain = plain();
        let (head, rest) = plain.split_at(1_000_000);
        let skippable = [&[0x51, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &zstd(&plain)].concat();
        let cases = [
            ("plain", TAR, plain.clone()),
            ("gzip", GZIP, gzip(&plain)),
            ("gzip of two members", GZIP, [gzip(head), gzip(rest)].concat()),
            ("zstd", ZSTD, zstd(&plain)),
            ("zstd of two frames", ZSTD, [zstd(head), zstd(rest)].concat()),
            ("zstd after a skippable frame", ZSTD, skippable),
            ("unclear plain", Declared::Unclear, plain.clone()),
            ("unclear gzip", Declared::Unclear, gzip(&plain)),
            ("unclear zstd", Declared::Unclear, zstd(&plain)),
        ];
        for (name, declared, blob) in cases {
            let pass = pass(&blob, declared);
            assert!(pass.result.is_ok_and(|tar| tar == plain), "{name}: content");
            assert_eq!((pass.blob, pass.tar), (measured(&blob), measured(&plain)), "{name}: digests");
        }
    }

    #[test]
    fn digests_cover_what_the_consumer_leaves() {
        let plain = plain();
        let blob = gzip(&plain);
        let pass = run(&mut &blob[..], GZIP, &Cancel::default(), |tar| tar.read_exact(&mut [0; 512]));
        assert!(pass.result.is_ok());
        assert_eq!((pass.blob, pass.tar), (measured(&blob), measured(&plain)));
    }

    #[test]
    fn a_refused_archive_still_tells_the_digest_of_the_blob() {
        for (declared, blob) in [(TAR, plain()), (GZIP, gzip(&plain())), (ZSTD, zstd(&plain()))] {
            let pass = run(&mut &blob[..], declared, &Cancel::default(), |_| Err::<(), _>("refused"));
            assert!(matches!(pass.result, Err(Failure::Consume("refused"))), "{declared:?}");
            assert_eq!(pass.blob, measured(&blob), "{declared:?}");
        }
    }

    #[test]
    fn truncated_content_is_an_error_and_never_a_short_tar() {
        for (declared, whole) in [(GZIP, gzip(&plain())), (ZSTD, zstd(&plain()))] {
            for length in [5, 17, whole.len() / 2, whole.len() - 1] {
                let pass = pass(&whole[..length], declared);
                let failed = matches!(pass.result, Err(Failure::Content(BadContent::Decode { .. })));
                assert!(failed, "{declared:?} cut to {length}");
                assert_eq!(pass.blob, measured(&whole[..length]));
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_found() {
        for (declared, mut blob) in [
            (GZIP, gzip(&plain())),
            (ZSTD, {
                let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
                encoder.include_checksum(true).unwrap();
                encoder.write_all(&plain()).unwrap();
                encoder.finish().unwrap()
            }),
        ] {
            let middle = blob.len() / 2;
            blob[middle] ^= 1;
            assert!(matches!(pass(&blob, declared).result, Err(Failure::Content(_))), "{declared:?}");
        }
    }

    #[test]
    fn content_of_another_kind_is_named() {
        for (declared, blob, found) in [
            (TAR, gzip(b"x"), Compression::Gzip),
            (GZIP, zstd(b"x"), Compression::Zstd),
            (ZSTD, b"etc/".to_vec(), Compression::None),
        ] {
            match pass(&blob, declared).result {
                Err(Failure::Content(BadContent::Mislabelled { found: shown, .. })) => {
                    assert_eq!(shown, found)
                }
                other => panic!("{declared:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_empty_blob_is_an_empty_tar_and_no_gzip() {
        assert!(pass(b"", TAR).result.is_ok_and(|tar| tar.is_empty()));
        assert!(matches!(pass(b"", GZIP).result, Err(Failure::Content(_))));
    }

    #[test]
    fn a_source_that_breaks_is_the_reason() {
        struct Broken(usize);
        impl Read for Broken {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                if self.0 < 100 { Ok(buffer.len().min(4096)) } else { Err(io::Error::other("disk")) }
            }
        }
        let pass = run(&mut Broken(0), TAR, &Cancel::default(), read_all);
        assert!(matches!(pass.result, Err(Failure::Source(error)) if error.to_string() == "disk"));
    }

    #[test]
    fn a_cancelled_pass_ends_though_its_blob_was_read_whole() {
        let blob = zstd(&vec![0; 256 << 20]);
        assert!(blob.len() < super::super::chunk::CHUNK_SIZE);
        let cancel = Cancel::default();
        let pass = run(&mut &blob[..], ZSTD, &cancel.clone(), |tar| {
            let read = tar.read_exact(&mut [0; 4096]);
            cancel.cancel();
            read
        });
        assert!(matches!(pass.result, Err(Failure::Cancelled)));
        assert!(pass.tar.bytes < 256 << 20, "{} bytes were decompressed", pass.tar.bytes);
    }

    #[test]
    fn a_cancelled_pass_ends_though_its_source_does_not() {
        let cancel = Cancel::default();
        let pass = run(&mut io::repeat(0), TAR, &cancel.clone(), |tar| {
            let read = tar.read_exact(&mut [0; 4096]);
            cancel.cancel();
            read
        });
        assert!(matches!(pass.result, Err(Failure::Cancelled)));
    }
}
