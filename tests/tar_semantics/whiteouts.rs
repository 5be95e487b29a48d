//! Whiteouts and opaque directories.

use nexuserofs::image::tar::{Fault, Refusal};

use crate::archive::{Entry, archive};
use crate::listing::{fault, list, read};

#[test]
fn a_whiteout_is_a_device_0_0() {
    let entry = Entry::file("d/.wh.gone", "body").mode(0o644).owner(3, 4).mtime(5).xattr("user.x", "y");
    let listing = list(&archive(&[entry, Entry::file("d/.wh..hidden", "")]));
    assert_eq!(
        listing,
        [
            "/ d0755 implicit",
            "/d d0755 implicit",
            "/d/.hidden c0000 0:0",
            "/d/gone c0000 3:4 @5.000000000 0:0",
        ]
    );
}

#[test]
fn the_type_of_a_whiteout_does_not_matter() {
    for entry in [Entry::directory(".wh.x/"), Entry::symlink(".wh.x", "a"), Entry::hard_link(".wh.x", "none")]
    {
        assert_eq!(list(&archive(&[entry])), ["/ d0755 implicit", "/x c0000 0:0"]);
    }
}

#[test]
fn an_opaque_mark_is_an_attribute() {
    let listing = list(&archive(&[
        Entry::directory("d").mode(0o700),
        Entry::file("d/before", ""),
        Entry::file("d/.wh..wh..opq", ""),
        Entry::file("d/after", ""),
        Entry::file("e/.wh..wh..opq", ""),
    ]));
    assert_eq!(
        listing,
        [
            "/ d0755 implicit",
            "/d d0700 opaque",
            "/d/after f0644 \"\"",
            "/d/before f0644 \"\"",
            "/e d0755 implicit opaque",
        ]
    );
}

#[test]
fn an_opaque_mark_survives_a_later_directory_entry() {
    let listing =
        list(&archive(&[Entry::file("d/.wh..wh..opq", ""), Entry::directory("d").mode(0o711).owner(1, 1)]));
    assert_eq!(listing, ["/ d0755 implicit", "/d d0711 1:1 opaque"]);
}

#[test]
fn the_root_can_be_opaque() {
    let image = read(&archive(&[Entry::file(".wh..wh..opq", "")])).unwrap();
    assert_eq!(image.list(), ["/ d0755 implicit opaque"]);
    assert_eq!(image.layer.root, None);
}

#[test]
fn a_whiteout_leaves_what_its_own_layer_has() {
    let whiteout = Entry::file(".wh.x", "");
    let others = [Entry::file("x", "x"), Entry::symlink("x", "t"), Entry::new(b'6', "x")];
    for other in others {
        let alone = list(&archive(std::slice::from_ref(&other)));
        assert_eq!(list(&archive(&[whiteout.clone(), other.clone()])), alone);
        assert_eq!(list(&archive(&[other, whiteout.clone()])), alone);
    }
}

#[test]
fn a_whiteout_and_a_directory_make_an_opaque_directory() {
    let (whiteout, directory) = (Entry::file(".wh.x", ""), Entry::directory("x").mode(0o700));
    let expected = ["/ d0755 implicit", "/x d0700 opaque"];
    assert_eq!(list(&archive(&[whiteout.clone(), directory.clone()])), expected);
    assert_eq!(list(&archive(&[directory, whiteout])), expected);
}

#[test]
fn a_whiteout_and_entries_below_make_an_opaque_directory() {
    let (whiteout, file) = (Entry::file(".wh.x", ""), Entry::file("x/f", ""));
    let expected = ["/ d0755 implicit", "/x d0755 implicit opaque", "/x/f f0644 \"\""];
    assert_eq!(list(&archive(&[whiteout.clone(), file.clone()])), expected);
    assert_eq!(list(&archive(&[file, whiteout])), expected);
}

/// All orders of some things.
fn orders<T: Clone>(things: &[T]) -> Vec<Vec<T>> {
    let Some(last) = things.len().checked_sub(1) else { return vec![Vec::new()] };
    let ending = |end: usize| {
        let others = [&things[..end], &things[end + 1..]].concat();
        orders(&others).into_iter().map(move |order| [order, vec![things[end].clone()]].concat())
    };
    (0..=last).flat_map(ending).collect()
}

#[test]
fn a_whiteout_lasts_whatever_comes_before_and_after_it() {
    let whiteout = (Entry::file(".wh.x", ""), None);
    let file = (Entry::file("x", "x"), Some("/x f0644 \"x\""));
    let directory = (Entry::directory("x").mode(0o700), Some("/x d0700 opaque"));
    let mut all = orders(&[whiteout.clone(), file.clone(), directory.clone()]);
    assert_eq!(all.len(), 6);
    all.extend(orders(&[whiteout.clone(), file.clone(), directory.clone(), whiteout]));
    all.extend(orders(&[(Entry::file(".wh.x", ""), None), file, directory.clone(), directory]));
    for order in all {
        let last = order.iter().filter_map(|(_, line)| *line).next_back().unwrap();
        let entries: Vec<Entry> = order.iter().map(|(entry, _)| entry.clone()).collect();
        assert_eq!(list(&archive(&entries)), ["/ d0755 implicit", last], "{entries:?}");
    }
    let below =
        [Entry::file(".wh.x", ""), Entry::file("x", ""), Entry::directory("x"), Entry::file("x/f", "")];
    let expected = ["/ d0755 implicit", "/x d0755 opaque", "/x/f f0644 \"\""];
    assert_eq!(list(&archive(&below)), expected);
}

#[test]
fn a_whiteout_goes_with_its_directory() {
    let [whiteout, mark] = [Entry::file("d/.wh.x", ""), Entry::file("d/.wh..wh..opq", "")];
    let entries = [whiteout, mark, Entry::file("d", ""), Entry::directory("d"), Entry::directory("d/x")];
    assert_eq!(list(&archive(&entries)), ["/ d0755 implicit", "/d d0755", "/d/x d0755"]);
}

#[test]
fn a_whiteout_given_twice_is_one() {
    let entries = [Entry::file(".wh.x", "").owner(1, 1), Entry::file(".wh.x", "").owner(2, 2)];
    assert_eq!(list(&archive(&entries)), ["/ d0755 implicit", "/x c0000 1:1 0:0"]);
}

#[test]
fn a_device_0_0_in_the_archive_is_a_whiteout_too() {
    let device = Entry::device(b'3', "x", 0, 0).mode(0o600);
    assert_eq!(list(&archive(std::slice::from_ref(&device))), ["/ d0755 implicit", "/x c0600 0:0"]);
    let expected = ["/ d0755 implicit", "/x d0755 opaque"];
    assert_eq!(list(&archive(&[device.clone(), Entry::directory("x")])), expected);
    assert_eq!(list(&archive(&[device.clone(), Entry::file("x", ""), Entry::directory("x")])), expected);
    let another_name = [device, Entry::hard_link("y", "x"), Entry::file("y", ""), Entry::directory("y")];
    assert_eq!(list(&archive(&another_name))[2..], ["/y d0755 opaque"]);
}

#[test]
fn whiteouts_that_name_nothing_are_refused() {
    for path in [".wh.", "d/.wh.", ".wh..", "d/.wh...", ".wh./"] {
        assert_eq!(
            fault(&archive(&[Entry::file(path, "")])),
            Fault::Refused(Refusal::WhiteoutName),
            "{path}"
        );
    }
}

#[test]
fn aufs_bookkeeping_is_passed_over() {
    let listing = list(&archive(&[
        Entry::file(".wh..wh.aufs", "x"),
        Entry::directory(".wh..wh.orph"),
        Entry::directory(".wh..wh.plnk").mode(0o700),
        Entry::file(".wh..wh.plnk/42.7", "data"),
        Entry::file("f", "kept"),
    ]));
    assert_eq!(listing, ["/ d0755 implicit", "/f f0644 \"kept\""]);
}

#[test]
fn a_directory_cannot_have_the_prefix_of_whiteouts() {
    let fault = fault(&archive(&[Entry::file("a/.wh.b/c", "")]));
    assert!(matches!(fault, Fault::Refused(Refusal::ReservedName(_))), "{fault}");
}

#[test]
fn the_name_behind_the_prefix_can_be_of_255_bytes() {
    let name = "n".repeat(255);
    let listing = list(&archive(&[Entry::file("x", "").pax("path", format!(".wh.{name}"))]));
    assert_eq!(listing[1], format!("/{name} c0000 0:0"));
}
