//! Where an archive ends, and streams that stop.

use std::io::{self, BufRead, BufReader, Read};

use nexuserofs::image::tar::{Error, Fault, Limits, Malformed, Part, read_layer};
use nexuserofs::image::tree::BlockSink;

use crate::archive::{BLOCK, Entry, GNU, archive, extension};
use crate::listing::{Blocks, fault, list, read};

/// The part in which an archive that stops after `length` bytes is cut.
fn cut(archive: &[u8], length: usize) -> Option<Part> {
    match read(&archive[..length]) {
        Ok(_) => None,
        Err(Error::Cut { part, offset, .. }) => {
            assert_eq!(offset, length as u64);
            Some(part)
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn an_archive_without_end_blocks_is_complete() {
    let whole = archive(&[Entry::directory("d"), Entry::file("d/f", "x")]);
    let expected = list(&whole);
    for missing in [BLOCK, 2 * BLOCK] {
        assert_eq!(list(&whole[..whole.len() - missing]), expected);
    }
    assert_eq!(list(&[]), ["/ d0755 implicit"]);
    assert_eq!(list(&[0; BLOCK]), ["/ d0755 implicit"]);
}

#[test]
fn padding_may_be_missing_at_the_end() {
    let whole = Entry::file("f", "hello").bytes();
    for length in BLOCK + 5..=whole.len() {
        assert_eq!(cut(&whole, length), None);
    }
}

#[test]
fn an_archive_cut_anywhere_else_is_refused() {
    let file = Entry::file("d/f", [b'x'; 700]).pax("mtime", "1.5");
    let extended = extension(b'L', b"a/long/name\0");
    let whole = [extended.as_slice(), &file.bytes()].concat();
    for length in 1..whole.len() {
        let expected = match length {
            1..512 => Some(Part::Header),
            512..1024 => Some(Part::ExtendedHeader),
            1024 | 2048 => Some(Part::ExtendedHeader),
            1025..1536 | 2049..2560 => Some(Part::Header),
            1536..2048 => Some(Part::ExtendedHeader),
            2560..3260 => Some(Part::Data),
            _ => None,
        };
        // Between the bytes of an extended header and the end of its block nothing is missing yet,
        // but the member that it belongs to is.
        assert_eq!(cut(&whole, length), expected, "{length}");
    }
}

#[test]
fn an_extended_header_may_be_the_last_thing_before_the_end_mark() {
    let bytes = [Entry::file("f", "").bytes(), extension(b'L', b"lost"), archive(&[])].concat();
    assert_eq!(list(&bytes), ["/ d0755 implicit", "/f f0644 \"\""]);
}

#[test]
fn a_sparse_map_cut_short_is_refused() {
    let header = Entry::new(b'S', "f").format(GNU).field(386, "00000000000\0").field(482, [1]).bytes();
    assert_eq!(cut(&header, BLOCK), Some(Part::SparseMap));
    let map = Entry::file("f", "1\n0\n".to_owned() + &"0".repeat(1020)).pax("GNU.sparse.major", "1");
    let bytes = map.pax("GNU.sparse.minor", "0").bytes();
    for length in [3 * BLOCK, 3 * BLOCK + 100, 4 * BLOCK, 4 * BLOCK + 1] {
        assert_eq!(cut(&bytes, length), Some(Part::SparseMap), "{length}");
    }
}

#[test]
fn a_lone_zero_block_is_refused() {
    let bytes = [vec![0; BLOCK], Entry::file("f", "").bytes()].concat();
    assert_eq!(fault(&bytes), Fault::Malformed(Malformed::LoneZeroBlock));
    assert_eq!(cut(&[0; 2 * BLOCK - 1], 2 * BLOCK - 1), Some(Part::Header));
}

#[test]
fn what_follows_the_end_is_left_to_the_caller() {
    let bytes = [archive(&[Entry::file("f", "x")]), b"not a tar header".to_vec()].concat();
    let mut reader = bytes.as_slice();
    read_layer(&mut reader, &mut Blocks::default(), &Limits::default()).unwrap();
    assert_eq!(reader, b"not a tar header");
}

/// Gives at most so many bytes at a time, an interruption before each, and fails at the end.
struct Trickle<'a> {
    rest: &'a [u8],
    at_once: usize,
    interrupted: bool,
}

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let ready = self.fill_buf()?;
        let length = ready.len().min(buffer.len());
        buffer[..length].copy_from_slice(&ready[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Trickle<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.interrupted = !self.interrupted;
        if self.interrupted {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if self.rest.is_empty() {
            return Err(io::Error::other("connection lost"));
        }
        Ok(&self.rest[..self.at_once.min(self.rest.len())])
    }

    fn consume(&mut self, length: usize) {
        self.rest = &self.rest[length..];
    }
}

#[test]
fn the_size_of_reads_does_not_matter() {
    let bytes = archive(&[
        Entry::file("a/long", [b'x'; 5000]).xattr("user.a", vec![b'v'; 700]),
        Entry::hard_link("b", "a/long"),
    ]);
    let whole = read(&bytes).unwrap().layer;
    for at_once in [1, 7, 511, 512, 513, 1 << 20] {
        let mut reader = Trickle { rest: &bytes, at_once, interrupted: false };
        let layer = read_layer(&mut reader, &mut Blocks::default(), &Limits::default()).unwrap();
        assert_eq!(layer, whole);
    }
}

#[test]
fn errors_of_the_stream_come_through() {
    let bytes = Entry::file("f", [b'x'; 5000]).bytes();
    let mut reader = Trickle { rest: &bytes, at_once: 100, interrupted: false };
    match read_layer(&mut reader, &mut Blocks::default(), &Limits::default()) {
        Err(Error::Read { offset, source }) => {
            assert_eq!((offset, source.to_string().as_str()), (bytes.len() as u64, "connection lost"));
        }
        other => panic!("{other:?}"),
    }
}

/// A sink on a full disk.
struct Full;

impl BlockSink for Full {
    fn next_block(&self) -> u32 {
        0
    }

    fn append(&mut self, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn align(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn errors_of_the_sink_name_the_entry() {
    let bytes = archive(&[Entry::directory("d"), Entry::file("d/f", "x")]);
    match read_layer(&mut BufReader::new(bytes.as_slice()), &mut Full, &Limits::default()) {
        Err(Error::Store { entry, source }) => {
            assert_eq!(entry.to_string(), "tar entry \"d/f\" at byte 512");
            assert_eq!(source.kind(), io::ErrorKind::StorageFull);
        }
        other => panic!("{other:?}"),
    }
}
