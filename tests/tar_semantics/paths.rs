//! Paths: normal form, parents that no entry names, the root, links on the way.

use nexuserofs::image::tar::{Breach, Fault, MAX_LOOKUPS, Quantity, Refusal};

use crate::archive::{Entry, archive, extension};
use crate::listing::{fault, list, read};

#[test]
fn dots_and_slashes_do_not_matter() {
    for path in ["a/f", "./a/f", "/a/f", "//a//f", "a/./f", "./././a/f", "a/x/../f", "../a/f", "/../../a/f"] {
        let listing = list(&archive(&[Entry::directory("a"), Entry::file(path, "x")]));
        assert_eq!(listing, ["/ d0755 implicit", "/a d0755", "/a/f f0644 \"x\""], "{path}");
    }
}

#[test]
fn nothing_is_above_the_root() {
    let listing = list(&archive(&[
        Entry::file("../../../etc/passwd", "1"),
        Entry::file("/etc/shadow", "2"),
        Entry::directory("a"),
        Entry::file("a/../../../../out", "3"),
    ]));
    assert_eq!(
        listing,
        [
            "/ d0755 implicit",
            "/a d0755",
            "/etc d0755 implicit",
            "/etc/passwd f0644 \"1\"",
            "/etc/shadow f0644 \"2\"",
            "/out f0644 \"3\"",
        ]
    );
}

#[test]
fn missing_parents_are_made_and_marked() {
    let listing = list(&archive(&[Entry::file("a/b/f", "x").owner(5, 5).mtime(9)]));
    assert_eq!(
        listing,
        [
            "/ d0755 implicit",
            "/a d0755 implicit",
            "/a/b d0755 implicit",
            "/a/b/f f0644 5:5 @9.000000000 \"x\"",
        ]
    );
}

#[test]
fn a_later_entry_takes_the_mark_away() {
    let listing =
        list(&archive(&[Entry::file("a/b/f", "x"), Entry::directory("a").mode(0o700).owner(1, 2).mtime(3)]));
    assert_eq!(
        listing,
        ["/ d0755 implicit", "/a d0700 1:2 @3.000000000", "/a/b d0755 implicit", "/a/b/f f0644 \"x\""]
    );
}

#[test]
fn the_root_can_be_named() {
    for path in ["./", ".", "/", "", "a/..", ".."] {
        let image = read(&archive(&[
            Entry::directory(path).mode(0o711).owner(3, 4).mtime(5).xattr("user.x", "y"),
            Entry::file("f", ""),
        ]))
        .unwrap();
        assert_eq!(image.list(), ["/ d0711 3:4 @5.000000000 user.x=y", "/f f0644 \"\""], "{path}");
        assert_eq!(image.layer.root.as_ref(), Some(&image.at("/").metadata));
    }
    assert_eq!(read(&archive(&[Entry::file("f", "")])).unwrap().layer.root, None);
}

#[test]
fn what_is_no_directory_cannot_be_the_root() {
    let image = read(&archive(&[
        Entry::file("./", "skipped").mode(0o600),
        Entry::symlink("/", "x"),
        Entry::file("f", "kept"),
    ]))
    .unwrap();
    assert_eq!(image.list(), ["/ d0755 implicit", "/f f0644 \"kept\""]);
    assert_eq!(image.layer.root, None);
    assert_eq!(image.layer.entries, 3);
}

#[test]
fn links_on_the_way_are_followed_inside_the_root() {
    for target in ["usr/lib", "/usr/lib", "./usr//lib/", "../../usr/lib", "/../usr/lib", "usr/bin/../lib"] {
        let listing = list(&archive(&[
            Entry::directory("usr"),
            Entry::directory("usr/bin"),
            Entry::directory("usr/lib"),
            Entry::symlink("lib", target),
            Entry::file("lib/libc.so", "x"),
        ]));
        assert_eq!(listing[1], format!("/lib l0777 -> {target}"));
        assert_eq!(listing[5], "/usr/lib/libc.so f0644 \"x\"", "{target}");
        assert_eq!(listing.len(), 6);
    }
}

#[test]
fn chains_of_links_are_followed() {
    let listing = list(&archive(&[
        Entry::symlink("a", "b"),
        Entry::symlink("b", "/c/d"),
        Entry::symlink("c", "e"),
        Entry::directory("e/d"),
        Entry::file("a/f", "x"),
    ]));
    assert!(listing.contains(&"/e/d/f f0644 \"x\"".to_owned()), "{listing:#?}");
}

#[test]
fn a_link_to_nothing_makes_its_target() {
    let listing = list(&archive(&[Entry::symlink("a", "nowhere/b"), Entry::file("a/f", "x")]));
    assert_eq!(
        listing,
        [
            "/ d0755 implicit",
            "/a l0777 -> nowhere/b",
            "/nowhere d0755 implicit",
            "/nowhere/b d0755 implicit",
            "/nowhere/b/f f0644 \"x\"",
        ]
    );
}

#[test]
fn links_in_a_circle_are_refused() {
    let circle = [Entry::symlink("a", "b"), Entry::symlink("b", "a"), Entry::file("a/f", "x")];
    assert_eq!(fault(&archive(&circle)), Fault::Refused(Refusal::TooManyLinks));
    let itself = [Entry::symlink("a", "a/b"), Entry::file("a/f", "x")];
    assert_eq!(fault(&archive(&itself)), Fault::Refused(Refusal::TooManyLinks));
}

#[test]
fn dot_dot_after_a_link_is_refused() {
    let entries = [
        Entry::directory("d/e"),
        Entry::symlink("link", "d/e"),
        Entry::symlink("a", "link/../x"),
        Entry::file("a/f", ""),
    ];
    let fault = fault(&archive(&entries));
    assert!(matches!(fault, Fault::Refused(Refusal::ParentOfLink(_))), "{fault}");
}

#[test]
fn the_work_of_one_look_up_is_bounded() {
    let long = "d/".repeat(1500);
    let entries = [
        extension(b'K', long.as_bytes()),
        Entry::symlink("l0", "").bytes(),
        extension(b'K', format!("l0/{long}").as_bytes()),
        Entry::symlink("l1", "").bytes(),
        extension(b'K', format!("l1/{long}").as_bytes()),
        Entry::symlink("l2", "").bytes(),
        Entry::file("l2/f", "").bytes(),
    ];
    let limit = MAX_LOOKUPS as u64;
    let breach = Breach { what: Quantity::Lookups, value: limit + 1, limit };
    assert_eq!(fault(&entries.concat()), Fault::Exceeded(breach));
}

#[test]
fn only_directories_can_be_parents() {
    for parent in [Entry::file("p", ""), Entry::device(b'3', "p", 1, 3), Entry::new(b'6', "p")] {
        let fault = fault(&archive(&[parent, Entry::file("p/f", "")]));
        assert!(matches!(fault, Fault::Refused(Refusal::NotADirectory(_))), "{fault}");
    }
}

#[test]
fn names_need_not_be_text() {
    let name = b"\xff\xfe caf\xe9\n\t\\";
    let long = [b"\x80".repeat(200), b"/".to_vec(), b"\xc3".repeat(255)].concat();
    let listing = list(&archive(&[Entry::file(name, "1"), Entry::file("short", "2").pax("path", &long)]));
    assert_eq!(listing[1], format!("/{} d0755 implicit", "\\x80".repeat(200)));
    assert_eq!(listing[2], format!("/{}/{} f0644 \"2\"", "\\x80".repeat(200), "\\xc3".repeat(255)));
    assert_eq!(listing[3], format!("/{} f0644 \"1\"", name.escape_ascii()));
}
