//! The seeds of the fuzz target `tar`: one small archive for each construct of the formats, kept in
//! `fuzz/seeds/tar`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::archive::{Entry, GNU, V7, archive, base256, extension, record};
use crate::listing::read;

/// Set to any value, this variable lets the test write the files.
const UPDATE: &str = "UPDATE_SEEDS";

#[test]
fn the_files_are_the_seeds_and_all_are_accepted() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/tar");
    for (name, bytes) in seeds() {
        read(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        if std::env::var_os(UPDATE).is_some() {
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join(name), bytes).unwrap();
        }
    }
    let files = fs::read_dir(&directory).unwrap().map(|file| file.unwrap());
    let found = files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap()));
    let expected = seeds().into_iter().map(|(name, bytes)| (name.to_owned(), bytes));
    let same = found.collect::<BTreeMap<_, _>>() == expected.collect();
    assert!(same, "run this test with {UPDATE}=1 to write {}", directory.display());
}

fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("types", archive(&types())),
        ("paths", archive(&paths())),
        ("old-headers", archive(&old_headers())),
        ("whiteouts", archive(&whiteouts())),
        ("pax", archive(&[pax_entry()])),
        ("long-names", long_names()),
        ("sparse-old", sparse_old()),
        ("sparse-0.0", archive(&[sparse_0_0()])),
        ("sparse-0.1", archive(&[sparse_0_1()])),
        ("sparse-1.0", archive(&[sparse_1_0()])),
        ("global", [extension(b'g', &record(b"path", b"x")), archive(&types())].concat()),
    ]
}

fn types() -> Vec<Entry> {
    vec![
        Entry::directory("d/"),
        Entry::file("d/f", "some data"),
        Entry::hard_link("h", "d/f").mode(0o4755),
        Entry::symlink("l", "d"),
        Entry::device(b'3', "c", 1, 3),
        Entry::device(b'4', "b", 8, 0),
        Entry::new(b'6', "p"),
        Entry::new(b'7', "contiguous").body("x"),
    ]
}

fn paths() -> Vec<Entry> {
    vec![
        Entry::directory("./"),
        Entry::symlink("lib", "usr/lib"),
        Entry::file("lib/a/../b", "x"),
        Entry::file("/abs//c/", "y"),
        Entry::file("../../up", "z"),
        Entry::directory("lib"),
        Entry::file("abs", "now a file"),
    ]
}

fn old_headers() -> Vec<Entry> {
    vec![
        Entry::new(0, "v7/").format(V7),
        Entry::new(0, "v7/f").format(V7).body("x"),
        Entry::file("f", "").field(345, "pre/fix"),
        Entry::file("s", "").field(345, "star").field(508, "tar\0"),
        Entry::file("g", "").format(GNU).field(345, "go/prefix"),
        Entry::file("n", "").field(108, base256(70_000, 8)).field(136, base256(-5, 12)),
    ]
}

fn whiteouts() -> Vec<Entry> {
    vec![
        Entry::file("d/.wh.gone", ""),
        Entry::file("d/.wh..wh..opq", ""),
        Entry::directory("gone"),
        Entry::file(".wh.gone", ""),
        Entry::file(".wh..wh.plnk/1", "x"),
    ]
}

fn pax_entry() -> Entry {
    let list = b"\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x04\0\x05\0\xff\xff\xff\xff\x10\0\x05\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";
    Entry::file("short", "data")
        .pax("path", "d/long")
        .pax("mtime", "-1.5")
        .pax("uid", "100000")
        .pax("size", "4")
        .xattr("user.a", "1\n2")
        .xattr("trusted.overlay.opaque", "y")
        .xattr("security.capability", b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0")
        .xattr("system.posix_acl_access", list)
}

fn long_names() -> Vec<u8> {
    let name = "n/".repeat(120);
    [
        extension(b'L', format!("{name}l\0").as_bytes()),
        extension(b'K', b"../target\0"),
        archive(&[Entry::symlink("", "").format(GNU)]),
    ]
    .concat()
}

fn sparse_old() -> Vec<u8> {
    let header = Entry::new(b'S', "s").format(GNU).size(600).field(483, "00000040000\0");
    let header = header.field(386, "00000000000\x0000000000144\0").field(482, [1]);
    let mut block = b"00000010000\x0000000000764\x0000000040000\x0000000000000\0".to_vec();
    block.resize(512, 0);
    let mut data = vec![b'd'; 600];
    data.resize(1024, 0);
    [header.bytes(), block, data, archive(&[])].concat()
}

fn sparse_0_0() -> Entry {
    Entry::file("GNUSparseFile.0/s", "ab")
        .pax("GNU.sparse.size", "9000")
        .pax("GNU.sparse.numblocks", "2")
        .pax("GNU.sparse.offset", "0")
        .pax("GNU.sparse.numbytes", "1")
        .pax("GNU.sparse.offset", "8999")
        .pax("GNU.sparse.numbytes", "1")
}

fn sparse_0_1() -> Entry {
    Entry::file("GNUSparseFile.0/s", "ab")
        .pax("GNU.sparse.size", "9000")
        .pax("GNU.sparse.numblocks", "2")
        .pax("GNU.sparse.map", "0,1,4096,1")
        .pax("GNU.sparse.name", "s")
}

fn sparse_1_0() -> Entry {
    let mut body = b"2\n0\n1\n4096\n1\n".to_vec();
    body.resize(512, 0);
    body.extend(b"ab");
    Entry::file("GNUSparseFile.0/s", body)
        .pax("GNU.sparse.major", "1")
        .pax("GNU.sparse.minor", "0")
        .pax("GNU.sparse.realsize", "9000")
        .pax("GNU.sparse.name", "s")
}
