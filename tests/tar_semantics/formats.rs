//! Headers of all ages, numbers, extended headers, and which of two statements counts.

use nexuserofs::image::tar::{Breach, Fault, Malformed, Quantity};

use crate::archive::{BLOCK, Entry, GNU, USTAR, V7, archive, base256, extension, record};
use crate::listing::{fault, list, read};

#[test]
fn the_prefix_of_a_path_depends_on_the_format() {
    let prefixed = |format: &[u8; 8]| Entry::file("f", "").format(format).field(345, "some/prefix");
    for format in [USTAR, b"ustar\x00  "] {
        assert_eq!(list(&archive(&[prefixed(format)])).last().unwrap(), "/some/prefix/f f0644 \"\"");
    }
    let star =
        Entry::file("f", "").field(345, [b"p".repeat(131), b"0123".to_vec()].concat()).field(508, "tar\0");
    assert_eq!(list(&archive(&[star])).last().unwrap(), &format!("/{}/f f0644 \"\"", "p".repeat(131)));
    let times = Entry::file("f", "").format(GNU).field(345, "00000000001 00000000002");
    for entry in [prefixed(V7), times] {
        assert_eq!(list(&archive(&[entry])), ["/ d0755 implicit", "/f f0644 \"\""]);
    }
}

#[test]
fn prefixes_that_old_go_wrote_into_gnu_headers() {
    let entry = Entry::file("f", "").format(GNU).field(345, "usr/share/a-long-prefix");
    assert_eq!(list(&archive(&[entry])).last().unwrap(), "/usr/share/a-long-prefix/f f0644 \"\"");
}

#[test]
fn names_can_fill_their_fields() {
    let (name, target) = ("n".repeat(100), "t".repeat(100));
    let listing = list(&archive(&[Entry::symlink(&name, &target)]));
    assert_eq!(listing[1], format!("/{name} l0777 -> {target}"));
    let prefixed = Entry::file(&name, "").field(345, "p".repeat(155));
    assert_eq!(list(&archive(&[prefixed]))[2], format!("/{}/{name} f0644 \"\"", "p".repeat(155)));
}

#[test]
fn checksums_of_unsigned_and_of_signed_bytes() {
    let signed = {
        let mut bytes = Entry::file("caf\u{e9}", "").bytes();
        // Old Sun tars added bytes as signed numbers: 256 less for each byte above 127.
        let field = std::str::from_utf8(&bytes[148..154]).unwrap();
        let sum = u32::from_str_radix(field, 8).unwrap() - 2 * 256;
        bytes[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
        bytes
    };
    assert_eq!(list(&signed)[1], "/caf\\xc3\\xa9 f0644 \"\"");
    let mut wrong = archive(&[Entry::file("f", "")]);
    wrong[0] ^= 1;
    assert_eq!(fault(&wrong), Fault::Malformed(Malformed::Checksum));
    assert_eq!(fault(&[b'x'; 1024]), Fault::Malformed(Malformed::Checksum));
}

#[test]
fn numbers_have_many_spellings() {
    for mode in ["644", "   644 ", "0000644\0", "00000644", "\0\0  644\0", "644 \0\0\0\0"] {
        let entry = Entry::file("f", "").field(100, [0; 8]).field(100, mode);
        assert_eq!(list(&archive(&[entry]))[1], "/f f0644 \"\"", "{mode:?}");
    }
    let blank = Entry::file("f", "").field(100, [0; 8]).field(108, [b' '; 8]).field(136, [0; 12]);
    assert_eq!(list(&archive(&[blank]))[1], "/f f0000 \"\"");
    let large = Entry::file("f", "abc").field(124, base256(3, 12));
    assert_eq!(list(&archive(&[large]))[1], "/f f0644 \"abc\"");
}

#[test]
fn what_is_no_number_is_refused() {
    for (offset, value, name) in [
        (100, b"00x0644\0".to_vec(), "mode"),
        (100, b"+000644\0".to_vec(), "mode"),
        (108, b"0000009\0".to_vec(), "uid"),
        (116, b"-1\0\0\0\0\0\0".to_vec(), "gid"),
        (136, [b"\x80".to_vec(), vec![0xff; 11]].concat(), "mtime"),
        (136, [b"\xff".to_vec(), vec![0; 11]].concat(), "mtime"),
        (329, b"no\0".to_vec(), "devmajor"),
        (337, b"8\0".to_vec(), "devminor"),
    ] {
        let fault = fault(&archive(&[Entry::file("f", "").field(offset, value)]));
        assert_eq!(fault, Fault::Malformed(Malformed::Number(name)));
    }
    let negative = fault(&archive(&[Entry::file("f", "").field(124, base256(-1, 12))]));
    assert_eq!(negative, Fault::Malformed(Malformed::NegativeSize));
}

#[test]
fn pax_records_beat_the_header() {
    let entry = Entry::symlink("short", "short")
        .pax("path", "a/long path=with\nall\u{fe}")
        .pax("linkpath", "a/target")
        .pax("uid", "7")
        .pax("gid", "8")
        .pax("mtime", "9.5")
        .pax("comment", "no meaning\0here");
    let listing = list(&archive(&[entry]));
    assert_eq!(listing[2], "/a/long path=with\\nall\\xc3\\xbe l0777 7:8 @9.500000000 -> a/target");
}

#[test]
fn the_pax_size_beats_the_header() {
    let entry = Entry::new(b'0', "f").pax("size", "600").body_without_size([b'x'; 600]);
    let image = read(&archive(&[entry, Entry::file("g", "after")])).unwrap();
    assert_eq!(image.list(), ["/ d0755 implicit", "/f f0644 \"600 bytes\"", "/g f0644 \"after\""]);
}

#[test]
fn empty_pax_records_say_nothing_and_the_last_of_a_kind_counts() {
    let entry = Entry::file("header", "")
        .owner(1, 1)
        .pax("path", "first")
        .pax("path", "second")
        .pax("uid", "2")
        .pax("uid", "")
        .pax("linkpath", "");
    assert_eq!(list(&archive(&[entry]))[1], "/second f0644 1:1 \"\"");
}

#[test]
fn of_two_extended_headers_the_later_counts() {
    let bytes = [
        extension(b'x', &[record(b"path", b"first"), record(b"uid", b"5")].concat()),
        extension(b'x', &record(b"path", b"second")),
        Entry::file("header", "").bytes(),
    ]
    .concat();
    assert_eq!(list(&bytes), ["/ d0755 implicit", "/second f0644 \"\""]);
    let bytes =
        [extension(b'L', b"first\0"), extension(b'L', b"second\0ignored"), Entry::file("header", "").bytes()]
            .concat();
    assert_eq!(list(&bytes), ["/ d0755 implicit", "/second f0644 \"\""]);
}

#[test]
fn global_headers_are_ignored_and_end_what_came_before() {
    let global = extension(b'g', &[record(b"path", b"global"), record(b"uid", b"9")].concat());
    let bytes = [
        global.clone(),
        Entry::file("a", "").bytes(),
        extension(b'x', &record(b"path", b"lost")),
        extension(b'L', b"lost too\0"),
        global.clone(),
        Entry::file("b", "").bytes(),
        global,
    ]
    .concat();
    let image = read(&bytes).unwrap();
    assert_eq!(image.list(), ["/ d0755 implicit", "/a f0644 \"\"", "/b f0644 \"\""]);
    assert_eq!(image.layer.entries, 2);
}

#[test]
fn gnu_long_names_beat_pax_records() {
    let (long, target) = ("l/".repeat(120) + "f", "t".repeat(300));
    let bytes = [
        extension(b'K', format!("{target}\0").as_bytes()),
        extension(b'L', format!("{long}\0").as_bytes()),
        Entry::symlink("header", "header").pax("path", "pax").pax("linkpath", "pax").format(GNU).bytes(),
    ]
    .concat();
    assert_eq!(*list(&bytes).last().unwrap(), format!("/{long} l0777 -> {target}"));
    let empty = [extension(b'L', b"\0"), Entry::file("header", "").bytes()].concat();
    assert_eq!(list(&empty)[1], "/header f0644 \"\"");
}

#[test]
fn extended_headers_hold_for_one_member() {
    let bytes = [
        extension(b'L', b"long\0"),
        Entry::file("x", "").xattr("user.a", "1").pax("mtime", "5").bytes(),
        Entry::file("plain", "").bytes(),
    ]
    .concat();
    assert_eq!(
        list(&bytes),
        ["/ d0755 implicit", "/long f0644 @5.000000000 \"\" user.a=1", "/plain f0644 \"\""]
    );
}

#[test]
fn malformed_pax_records_are_refused() {
    let records: [&[u8]; 12] = [
        b"x",
        b"12 path=abc",
        b"12 path=abcX",
        b"99 path=abc\n",
        b"-1 path=abc\n",
        b"0 path=abc\n",
        b"13 path=abc\n",
        b"11 path=ab\n\n",
        b"9 =value\n\n",
        b"10 nokey!\n",
        b"12 path=a\0c\n",
        b"13 use\0r.x=y\n",
    ];
    for record in records {
        let bytes = [extension(b'x', record), Entry::file("f", "").bytes()].concat();
        let fault = fault(&bytes);
        assert_eq!(fault, Fault::Malformed(Malformed::PaxRecord), "{}", record.escape_ascii());
    }
}

#[test]
fn pax_values_that_are_no_numbers_are_refused() {
    for (key, value) in [
        ("size", "1x"),
        ("size", "99999999999999999999"),
        ("uid", " 1"),
        ("gid", "0x1"),
        ("mtime", "1,5"),
        ("mtime", "1.5s"),
        ("mtime", "."),
        ("mtime", "-9223372036854775808.5"),
    ] {
        let fault = fault(&archive(&[Entry::file("f", "").pax(key, value)]));
        assert_eq!(fault, Fault::Malformed(Malformed::PaxNumber(key)), "{value}");
    }
}

#[test]
fn extended_headers_are_limited_in_size() {
    let limit = 1 << 20;
    for flag in *b"xgLK" {
        // The claim alone is refused: no body follows.
        let bytes = Entry::new(flag, "big").size(limit + 1).bytes();
        let breach = Breach { what: Quantity::ExtendedHeaderBytes, value: limit + 1, limit };
        assert_eq!(fault(&bytes), Fault::Exceeded(breach));
    }
    let vast = Entry::new(b'x', "big").field(124, base256(8 << 30, 12)).bytes();
    assert!(matches!(fault(&vast), Fault::Exceeded(_)));
}

#[test]
fn errors_name_entry_and_place() {
    let bytes = archive(&[
        Entry::file("ok", "x"),
        Entry::directory("d"),
        Entry::hard_link("bad\n/li\u{e9}k", "none"),
    ]);
    let error = read(&bytes).map(drop).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "tar entry \"bad\\n/li\\xc3\\xa9k\" at byte {}: refused, rebuild the image without it: the hard link's target \"none\" is not among the entries before it in this layer",
            3 * BLOCK
        )
    );
    let long = Entry::new(b'8', "f").pax("path", "p".repeat(3000));
    let text = read(&archive(&[long])).map(drop).unwrap_err().to_string();
    assert!(text.starts_with("tar entry \"\u{2026}ppp") && text.len() < 250, "{text}");
}
