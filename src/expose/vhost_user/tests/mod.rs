//! Requests as a guest puts them into a queue, without a socket.
//!
//! * `guest`: memory with a queue in it. * `requests`: what is answered. * `large`: reads that are cut into parts.
//! * `hostile`: what must not be answered.

mod guest;
mod hostile;
mod large;
mod requests;

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use super::{Disk, Part};
use crate::image::extent::ExtentMap;

/// Bytes that tell where they are.
fn pattern(seed: u64, length: u64) -> Vec<u8> {
    (0..length).map(|at| (at * 7 / 3 + at / 4096 * 13 + seed * 101) as u8).collect()
}

/// A file with these bytes, opened as layers are.
fn layer(bytes: &[u8]) -> File {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    File::open(file.path()).unwrap()
}

/// A disk of two files, bytes and zeros, and what it holds.
fn image() -> (Disk, Vec<u8>) {
    let files = [pattern(1, 16_384), pattern(2, 8192)];
    let parts =
        files.iter().map(|bytes| Part { file: layer(bytes), path: PathBuf::from("layer"), tree: None });
    let mut map = ExtentMap::new();
    map.push_bytes(vec![0x5a; 1024]).unwrap();
    map.push_file(1, 512, 7680).unwrap();
    map.push_zeros(5120).unwrap();
    map.push_file(0, 0, 16_384).unwrap();
    let expected = [&[0x5a; 1024], &files[1][512..], &[0; 5120], &files[0][..]].concat();
    (Disk::image(map, parts.collect(), |_| panic!("nothing is checked")).unwrap(), expected)
}

/// A writable block of so many bytes.
fn block(length: u64) -> (Disk, tempfile::NamedTempFile) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&pattern(3, length)).unwrap();
    let opened = File::options().read(true).write(true).open(file.path()).unwrap();
    (Disk::block(opened, file.path().to_owned()).unwrap(), file)
}
