//! Hard links.

use nexuserofs::image::tar::{Fault, Refusal};

use crate::archive::{Entry, archive};
use crate::listing::{fault, list, read};

#[test]
fn a_hard_link_shares_the_inode() {
    let image = read(&archive(&[
        Entry::file("d/a", "x"),
        Entry::hard_link("b", "d/a"),
        Entry::hard_link("c", "./b"),
        Entry::symlink("s", "t"),
        Entry::hard_link("s2", "/s"),
        Entry::new(b'6', "p"),
        Entry::hard_link("p2", "p"),
    ]))
    .unwrap();
    assert_eq!(
        image.list(),
        [
            "/ d0755 implicit",
            "/b f0644 \"x\"",
            "/c = /b",
            "/d d0755 implicit",
            "/d/a = /b",
            "/p p0644",
            "/p2 = /p",
            "/s l0777 -> t",
            "/s2 = /s",
        ]
    );
}

#[test]
fn the_metadata_of_the_last_link_counts() {
    let listing = list(&archive(&[
        Entry::file("a", "x").mode(0o600).owner(1, 2).mtime(3).xattr("user.a", "1").xattr("user.b", "1"),
        Entry::hard_link("b", "a").mode(0o4711).owner(4, 5).mtime(6).xattr("user.b", "2"),
        Entry::symlink("s", "t").owner(1, 2),
        Entry::hard_link("s2", "s").mode(0o600).owner(3, 4),
    ]));
    assert_eq!(
        listing,
        [
            "/ d0755 implicit",
            "/a f4711 4:5 @6.000000000 \"x\" user.a=1 user.b=2",
            "/b = /a",
            "/s l0777 3:4 -> t",
            "/s2 = /s",
        ]
    );
}

#[test]
fn a_link_without_capabilities_takes_them_away() {
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let file = Entry::file("a", "x").xattr("security.capability", capability).xattr("security.other", "1");
    let bare = list(&archive(&[file.clone(), Entry::hard_link("b", "a")]));
    assert_eq!(bare[1], "/a f0644 \"x\" security.other=1");
    let same = Entry::hard_link("b", "a").xattr("security.capability", capability);
    let listing = list(&archive(&[file, same]));
    assert_eq!(
        listing[1],
        format!("/a f0644 \"x\" security.capability={} security.other=1", capability.escape_ascii())
    );
}

#[test]
fn the_target_is_found_through_links_to_directories() {
    for target in
        ["lib/a", "lib//a", "./lib/./a", "/lib/a", "../lib/a", "usr/lib/a/", "lib/a/.//", "usr/../lib/a"]
    {
        let listing = list(&archive(&[
            Entry::directory("usr/lib"),
            Entry::symlink("lib", "usr/lib"),
            Entry::file("usr/lib/a", "x"),
            Entry::hard_link("b", target),
        ]));
        assert_eq!(listing.last().unwrap(), "/usr/lib/a = /b", "{target}");
    }
}

#[test]
fn the_target_must_come_first_in_the_same_layer() {
    let unknown = |entries: &[Entry]| {
        let fault = fault(&archive(entries));
        assert!(matches!(fault, Fault::Refused(Refusal::HardLinkTarget(_))), "{fault}");
    };
    unknown(&[Entry::hard_link("b", "a")]);
    unknown(&[Entry::hard_link("b", "a"), Entry::file("a", "later")]);
    unknown(&[Entry::hard_link("b", "no/such/a")]);
    unknown(&[Entry::directory("a"), Entry::hard_link("b", "a/..")]);
    unknown(&[Entry::hard_link("b", "")]);
    unknown(&[Entry::file("f", ""), Entry::symlink("a", "f"), Entry::hard_link("b", "a/")]);
    unknown(&[Entry::file("a", ""), Entry::new(b'1', "b").link("gone"), Entry::file("gone", "")]);
}

#[test]
fn a_link_to_itself_finds_nothing() {
    for entries in [
        [Entry::file("a", "x"), Entry::hard_link("a", "a")],
        [Entry::file("d/a", "x"), Entry::hard_link("d", "d/a")],
    ] {
        let fault = fault(&archive(&entries));
        assert!(matches!(fault, Fault::Refused(Refusal::HardLinkTarget(_))), "{fault}");
    }
}

#[test]
fn directories_have_no_hard_links() {
    for target in ["d", "d/", "/d"] {
        let fault = fault(&archive(&[Entry::directory("d"), Entry::hard_link("b", target)]));
        assert!(matches!(fault, Fault::Refused(Refusal::HardLinkToDirectory(_))), "{fault}");
    }
}

#[test]
fn symlinks_have_targets_that_linux_takes() {
    assert_eq!(fault(&archive(&[Entry::symlink("s", "")])), Fault::Refused(Refusal::EmptySymlink));
    let listing = list(&archive(&[Entry::symlink("s", "x").pax("linkpath", "x/".repeat(2047) + "x")]));
    assert_eq!(listing[1].len(), "/s l0777 -> ".len() + 4095);
}
