//! Types of entries, their modes, owners and times.

use nexuserofs::image::tar::{Fault, Quantity, Refusal};

use crate::archive::{Entry, V7, archive, base256};
use crate::listing::{fault, list};

#[test]
fn every_type() {
    let listing = list(&archive(&[
        Entry::directory("d"),
        Entry::file("d/file", "hello"),
        Entry::file("d/empty", ""),
        Entry::symlink("d/symlink", "../target"),
        Entry::device(b'3', "d/char", 5, 1),
        Entry::device(b'4', "d/block", 4095, 1_048_575),
        Entry::new(b'6', "d/fifo"),
        Entry::hard_link("d/other", "d/file"),
    ]));
    assert_eq!(
        listing,
        [
            "/ d0755 implicit",
            "/d d0755",
            "/d/block b0644 4095:1048575",
            "/d/char c0644 5:1",
            "/d/empty f0644 \"\"",
            "/d/fifo p0644",
            "/d/file f0644 \"hello\"",
            "/d/other = /d/file",
            "/d/symlink l0777 -> ../target",
        ]
    );
}

#[test]
fn old_and_contiguous_files_are_regular() {
    let listing = list(&archive(&[
        Entry::new(0, "old").format(V7).body("a"),
        Entry::new(b'7', "contiguous").body("b"),
    ]));
    assert_eq!(listing, ["/ d0755 implicit", "/contiguous f0644 \"b\"", "/old f0644 \"a\""]);
}

#[test]
fn slash_makes_directory_only_in_old_type() {
    let listing = list(&archive(&[
        Entry::new(0, "old/").format(V7).mode(0o750),
        Entry::new(b'0', "file/").body("x"),
        Entry::new(0, "short").pax("path", "from-pax/").mode(0o700),
    ]));
    assert_eq!(listing, ["/ d0755 implicit", "/file f0644 \"x\"", "/from-pax d0700", "/old d0750"]);
}

#[test]
fn other_types_are_refused() {
    for flag in *b"8DMNVXAZs" {
        let entry = Entry::new(flag, "x");
        assert_eq!(fault(&archive(&[entry])), Fault::Refused(Refusal::Type(flag)));
    }
}

#[test]
fn links_and_devices_have_no_body_whatever_their_size() {
    let listing = list(&archive(&[
        Entry::file("f", "x"),
        Entry::hard_link("h", "f").size(1),
        Entry::symlink("l", "f").size(512),
        Entry::directory("d").size(u64::from(u32::MAX)),
        Entry::new(b'6', "p").size(3),
        Entry::device(b'3', "c", 1, 3).size(3),
    ]));
    assert_eq!(
        listing,
        [
            "/ d0755 implicit",
            "/c c0644 1:3",
            "/d d0755",
            "/f f0644 \"x\"",
            "/h = /f",
            "/l l0777 -> f",
            "/p p0644",
        ]
    );
}

#[test]
fn modes() {
    let listing = list(&archive(&[
        Entry::file("none", "").mode(0),
        Entry::file("setuid", "").mode(0o4755),
        Entry::file("setgid", "").mode(0o2711),
        Entry::directory("sticky").mode(0o1777),
        Entry::symlink("link", "x").mode(0),
        Entry::file("type-bits", "").field(100, "0100600"),
        Entry::file("wide", "").field(100, base256(0o100_751, 8)),
    ]));
    assert_eq!(
        listing,
        [
            "/ d0755 implicit",
            "/link l0777 -> x",
            "/none f0000 \"\"",
            "/setgid f2711 \"\"",
            "/setuid f4755 \"\"",
            "/sticky d1777",
            "/type-bits f0600 \"\"",
            "/wide f0751 \"\"",
        ]
    );
}

#[test]
fn owners_of_32_bits() {
    let listing = list(&archive(&[
        Entry::file("octal", "").owner(0o7_777_777, 65_536),
        Entry::file("base256", "").field(108, base256(4_294_967_294, 8)).field(116, base256(3_000_000, 8)),
        Entry::file("pax", "").owner(1, 2).pax("uid", "70000").pax("gid", "4294967294"),
    ]));
    assert_eq!(
        listing,
        [
            "/ d0755 implicit",
            "/base256 f0644 4294967294:3000000 \"\"",
            "/octal f0644 2097151:65536 \"\"",
            "/pax f0644 70000:4294967294 \"\"",
        ]
    );
}

#[test]
fn owners_that_linux_would_cut_are_refused() {
    let owner = |value: &str| fault(&archive(&[Entry::file("x", "").pax("uid", value)]));
    let group = |value: i64| fault(&archive(&[Entry::file("x", "").field(116, base256(value, 8))]));
    for fault in [owner("4294967296"), owner("4294967295"), owner("-1")] {
        assert!(matches!(fault, Fault::Exceeded(breach) if breach.what == Quantity::Owner), "{fault}");
    }
    for fault in [group(1 << 32), group(-2)] {
        assert!(matches!(fault, Fault::Exceeded(breach) if breach.what == Quantity::Group), "{fault}");
    }
}

#[test]
fn times_with_nanoseconds_and_before_1970() {
    let listing = list(&archive(&[
        Entry::file("a", "").mtime(1_700_000_000),
        Entry::file("b", "").pax("mtime", "1700000000.123456789"),
        Entry::file("c", "").pax("mtime", "1.5000000009"),
        Entry::file("d", "").pax("mtime", "-1.25"),
        Entry::file("e", "").pax("mtime", "-0.000000001"),
        Entry::file("f", "").field(136, base256(-86_400, 12)),
        Entry::file("g", "").field(136, base256(1 << 40, 12)),
        Entry::file("h", "").mtime(5).pax("mtime", ""),
    ]));
    assert_eq!(
        listing,
        [
            "/ d0755 implicit",
            "/a f0644 @1700000000.000000000 \"\"",
            "/b f0644 @1700000000.123456789 \"\"",
            "/c f0644 @1.500000000 \"\"",
            "/d f0644 @-2.750000000 \"\"",
            "/e f0644 @-1.999999999 \"\"",
            "/f f0644 @-86400.000000000 \"\"",
            "/g f0644 @1099511627776.000000000 \"\"",
            "/h f0644 @5.000000000 \"\"",
        ]
    );
}

#[test]
fn device_numbers_beyond_linux_are_refused() {
    for (major, minor, what) in [(4096, 0, Quantity::Major), (0, 1_048_576, Quantity::Minor)] {
        let fault = fault(&archive(&[Entry::device(b'4', "x", major, minor)]));
        assert!(matches!(fault, Fault::Exceeded(breach) if breach.what == what), "{fault}");
    }
}

#[test]
fn device_numbers_in_base256_and_in_old_headers() {
    let listing = list(&archive(&[
        Entry::device(b'3', "wide", 0, 0).field(329, base256(300, 8)).field(337, base256(70_000, 8)),
        Entry::device(b'3', "old", 1, 3).format(V7),
    ]));
    assert_eq!(listing, ["/ d0755 implicit", "/old c0644 0:0", "/wide c0644 300:70000"]);
}
