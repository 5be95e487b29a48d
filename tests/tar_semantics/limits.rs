//! Budgets of a layer and bounds of Linux.

use nexuserofs::image::tar::{Breach, Error, Fault, INODE_COST, Limits, Quantity};

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
        Entry::file("x", "").xattr("user.a", "v".repeat(600)),
        Entry::file("x", "").xattr("security.a", "v".repeat(600)),
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
