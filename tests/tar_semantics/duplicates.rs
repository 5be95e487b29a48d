//! A path that several entries name.

use crate::archive::{Entry, archive};
use crate::listing::list;

#[test]
fn the_last_one_wins() {
    let listing = list(&archive(&[
        Entry::file("f", "first").mode(0o777).owner(1, 1).xattr("user.old", "1"),
        Entry::file("./f", "second").xattr("user.new", "2"),
    ]));
    assert_eq!(listing, ["/ d0755 implicit", "/f f0644 \"second\" user.new=2"]);
}

#[test]
fn the_type_can_change() {
    let types = || {
        [
            Entry::file("x", "x"),
            Entry::symlink("x", "t"),
            Entry::device(b'3', "x", 1, 3),
            Entry::device(b'4', "x", 1, 3),
            Entry::new(b'6', "x"),
            Entry::directory("x"),
            Entry::hard_link("x", "target"),
        ]
    };
    for before in types() {
        for after in types() {
            let target = Entry::file("target", "t");
            let alone = list(&archive(&[target.clone(), after.clone()]));
            assert_eq!(list(&archive(&[target, before.clone(), after])), alone);
        }
    }
}

#[test]
fn a_directory_named_again_keeps_its_entries() {
    let listing = list(&archive(&[
        Entry::directory("d").mode(0o700).owner(1, 1).mtime(1).xattr("user.a", "1").xattr("user.b", "1"),
        Entry::file("d/f", "x"),
        Entry::directory("d").mode(0o755).mtime(2).xattr("user.b", "2").xattr("user.c", "2"),
    ]));
    assert_eq!(
        listing,
        ["/ d0755 implicit", "/d d0755 @2.000000000 user.a=1 user.b=2 user.c=2", "/d/f f0644 \"x\"",]
    );
}

#[test]
fn a_directory_with_entries_gives_way_to_a_file() {
    let listing = list(&archive(&[
        Entry::directory("d"),
        Entry::file("d/e/f", "x"),
        Entry::hard_link("kept", "d/e/f"),
        Entry::file("d", "now a file"),
    ]));
    assert_eq!(listing, ["/ d0755 implicit", "/d f0644 \"now a file\"", "/kept f0644 \"x\""]);
}

#[test]
fn a_replaced_directory_starts_empty() {
    let listing = list(&archive(&[
        Entry::file("d/old", "x"),
        Entry::symlink("d", "elsewhere"),
        Entry::directory("d"),
        Entry::file("d/new", "y"),
    ]));
    assert_eq!(listing, ["/ d0755 implicit", "/d d0755", "/d/new f0644 \"y\""]);
}

#[test]
fn a_link_in_place_of_a_directory_is_not_followed_by_its_own_entry() {
    let listing = list(&archive(&[
        Entry::directory("d"),
        Entry::symlink("l", "d"),
        Entry::file("l", "x"),
        Entry::symlink("m", "d"),
        Entry::directory("m").mode(0o700),
    ]));
    assert_eq!(listing, ["/ d0755 implicit", "/d d0755", "/l f0644 \"x\"", "/m d0700"]);
}

#[test]
fn entries_after_a_parent_changed_go_to_the_new_parent() {
    let listing = list(&archive(&[
        Entry::directory("a"),
        Entry::file("a/1", ""),
        Entry::directory("b"),
        Entry::file("a/2", ""),
        Entry::symlink("a", "b"),
        Entry::file("a/3", ""),
    ]));
    assert_eq!(listing, ["/ d0755 implicit", "/a l0777 -> b", "/b d0755", "/b/3 f0644 \"\""]);
}
