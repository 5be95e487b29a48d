//! Budgets of a layer and bounds of Linux.

use std::io::{self, BufRead, Read};

use nexuserofs::image::tar::{Breach, Error, Fault, INODE_COST, Limits, Quantity, WHITEOUT_COST, read_layer};
use nexuserofs::image::tree::{BLOCK_SIZE, BlockSink, Extent, FileData, Node, Tree};

use crate::archive::{Entry, archive, extension};
use crate::listing::{fault, list, read, read_within};

fn breach_within(archive: &[u8], limits: &Limits) -> Breach {
    match read_within(archive, limits) {
        Err(Error::Entry { fault: Fault::Exceeded(breach), .. }) => breach,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("accepted"),
    }
}

#[test]
fn entries_are_counted() {
    let limits = Limits { max_entries: 3, ..Limits::default() };
    let three = [Entry::file("a", ""), Entry::file("a", ""), Entry::file(".wh.b", "")];
    assert!(read_within(&archive(&three), &limits).is_ok());
    let four = [three.as_slice(), &[Entry::directory("./")]].concat();
    let expected = Breach { what: Quantity::Entries, value: 4, limit: 3 };
    assert_eq!(breach_within(&archive(&four), &limits), expected);
}

#[test]
fn metadata_kept_in_memory_is_counted() {
    let grows = [
        Entry::file("a".repeat(100), ""),
        Entry::file("a/b/c/d", ""),
        Entry::symlink("l", "t".repeat(100)),
        Entry::file("x", "").xattr("user.a", "v"),
        Entry::directory("d"),
    ];
    for entry in grows {
        let limits = Limits { max_metadata_bytes: INODE_COST + 50, ..Limits::default() };
        let breach = breach_within(&archive(&[entry]), &limits);
        assert_eq!((breach.what, breach.limit), (Quantity::MetadataBytes, INODE_COST + 50));
    }
    // What is replaced was kept all the same.
    let limits = Limits { max_metadata_bytes: 4 * INODE_COST, ..Limits::default() };
    let same = vec![Entry::file("x", ""); 4];
    assert_eq!(breach_within(&archive(&same), &limits).what, Quantity::MetadataBytes);
    assert!(read_within(&archive(&same[..3]), &limits).is_ok());
}

#[test]
fn whiteouts_are_counted_once_a_name() {
    let limits = Limits { max_metadata_bytes: 2 * (INODE_COST + WHITEOUT_COST), ..Limits::default() };
    let whiteout = |name: &str| Entry::file(format!(".wh.{name}"), "");
    // An inode, its name, and the name once more.
    assert_eq!(
        breach_within(&archive(&[whiteout("a"), whiteout("b")]), &limits).value,
        limits.max_metadata_bytes + 4
    );
    assert!(read_within(&archive(&[whiteout("a"), whiteout("a"), whiteout("a")]), &limits).is_ok());
}

#[test]
fn attributes_that_are_dropped_cost_nothing() {
    let limits = Limits { max_metadata_bytes: INODE_COST + 50, ..Limits::default() };
    let entry = Entry::file("x", "").xattr("trusted.overlay.opaque", "v".repeat(600));
    assert!(read_within(&archive(&[entry]), &limits).is_ok());
}

#[test]
fn data_costs_no_metadata() {
    let limits = Limits { max_metadata_bytes: INODE_COST + 50, ..Limits::default() };
    let entry = Entry::file("x", vec![b'x'; 1 << 20]);
    assert!(read_within(&archive(&[entry]), &limits).is_ok());
}

#[test]
fn names_are_of_255_bytes() {
    let file = |length: usize| Entry::file("f", "").pax("path", format!("d/{}", "n".repeat(length)));
    assert_eq!(list(&archive(&[file(255)])).len(), 3);
    let expected = Breach { what: Quantity::NameBytes, value: 256, limit: 255 };
    assert_eq!(fault(&archive(&[file(256)])), Fault::Exceeded(expected));
    let parent = Entry::file("f", "").pax("path", format!("{}/f", "n".repeat(256)));
    assert_eq!(fault(&archive(&[parent])), Fault::Exceeded(expected));
    let whiteout = Entry::file("f", "").pax("path", format!(".wh.{}", "n".repeat(256)));
    assert_eq!(fault(&archive(&[whiteout])), Fault::Exceeded(expected));
}

#[test]
fn paths_are_of_4095_bytes() {
    let file = |path: &str| [extension(b'L', path.as_bytes()), Entry::file("f", "").bytes()].concat();
    let longest = "d/".repeat(2047) + "f";
    assert_eq!(list(&file(&longest)).len(), 2049);
    let expected = Breach { what: Quantity::PathBytes, value: 4096, limit: 4095 };
    assert_eq!(fault(&file(&(longest.clone() + "f"))), Fault::Exceeded(expected));
    // Only the path that is meant counts, not how it is written.
    assert_eq!(list(&file(&("./".repeat(5000) + &longest))).len(), 2049);
}

#[test]
fn links_do_not_lead_past_the_longest_path() {
    let deep = "d/".repeat(1000);
    let bytes = [
        extension(b'K', deep.as_bytes()),
        Entry::symlink("l", "").bytes(),
        extension(b'L', format!("l/{deep}f").as_bytes()),
        Entry::file("", "").bytes(),
        extension(b'K', format!("l/{deep}").as_bytes()),
        Entry::symlink("m", "").bytes(),
        extension(b'L', format!("m/{deep}f").as_bytes()),
        Entry::file("", "").bytes(),
    ]
    .concat();
    let fault = fault(&bytes);
    assert!(matches!(fault, Fault::Exceeded(Breach { what: Quantity::PathBytes, .. })), "{fault}");
}

#[test]
fn link_targets_are_of_4095_bytes() {
    let link =
        |length: usize| [extension(b'K', &b"t".repeat(length)), Entry::symlink("l", "").bytes()].concat();
    assert!(read(&link(4095)).is_ok());
    let expected = Breach { what: Quantity::SymlinkBytes, value: 4096, limit: 4095 };
    assert_eq!(fault(&link(4096)), Fault::Exceeded(expected));
}

#[test]
fn a_directory_of_50_000_entries() {
    let entries: Vec<Entry> = (0..50_000).map(|number| Entry::file(format!("d/{number}"), "")).collect();
    let image = read(&archive(&entries)).unwrap();
    match &image.at("/d").node {
        Node::Directory(directory) => assert_eq!(directory.entries.len(), 50_000),
        other => panic!("{other:?}"),
    }
}

/// Counts what it gets.
struct Counter(u64);

impl BlockSink for Counter {
    fn next_block(&self) -> u32 {
        u32::try_from(self.0 / BLOCK_SIZE).unwrap()
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0 += bytes.len() as u64;
        Ok(())
    }

    fn align(&mut self) -> io::Result<()> {
        self.0 = self.0.next_multiple_of(BLOCK_SIZE);
        Ok(())
    }
}

/// So many bytes from one buffer, which is never copied.
struct Plenty {
    buffer: Vec<u8>,
    left: u64,
}

impl Read for Plenty {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl BufRead for Plenty {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let ready = self.left.min(self.buffer.len() as u64);
        Ok(&self.buffer[..usize::try_from(ready).unwrap()])
    }

    fn consume(&mut self, length: usize) {
        self.left -= length as u64;
    }
}

#[test]
fn a_file_past_4_gib() {
    let size = (5 << 30) + 1;
    let header = Entry::new(b'0', "large").size(size).bytes();
    let header = header.as_slice();
    let padding = size.next_multiple_of(512) - size;
    let data = Plenty { buffer: vec![b'x'; 1 << 20], left: size + padding };
    let after = Entry::file("after", "x").bytes();
    let mut stream = header.chain(data).chain(after.as_slice());
    let mut sink = Counter(0);
    let layer = read_layer(&mut stream, &mut sink, &Limits::default()).unwrap();
    let Node::Directory(root) = &layer.tree.inode(Tree::ROOT).node else { panic!("no root") };
    let blocks = u32::try_from(size.div_ceil(BLOCK_SIZE)).unwrap();
    let large = FileData { size, extents: vec![Extent { file_block: 0, image_block: 0, blocks }] };
    assert_eq!(layer.tree.inode(root.entries[b"large".as_slice()]).node, Node::Regular(large));
    assert_eq!(sink.0, (u64::from(blocks) + 1) * BLOCK_SIZE);
}
