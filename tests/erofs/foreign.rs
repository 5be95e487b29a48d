//! Our reader on images that someone else made: mkfs.erofs, with whatever shapes of the format it has,
//! and images that are damaged on purpose.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::process::{Command, Stdio};

use nexuserofs::image::erofs::read::{Damage, Error, Image, Limits, Unsupported};
use nexuserofs::image::tar::write::{Options, write};
use nexuserofs::image::tree::{Contents as _, Metadata, Node, Timestamp, Tree};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use tempfile::TempDir;

use crate::everything::everything;
use crate::listing;
use crate::own;
use crate::random::any_sample;
use crate::sample::{Sample, bytes, metadata};
use crate::skipped::skip;

/// Options of mkfs.erofs that change how things are stored.
pub(crate) const SHAPES: [&[&str]; 7] = [
    &[],
    &["-Eforce-inode-extended"],
    &["-Eforce-inode-compact"],
    &["-Enoinline_data"],
    &["--chunksize=4096"],
    &["-Eforce-chunk-indexes", "--chunksize=8192"],
    &["-x1", "--xattr-prefix=user.some.", "--xattr-prefix=trusted.n"],
];

/// Lets mkfs.erofs make an image of a sample's tar. None if there is no mkfs.erofs, which is said.
pub(crate) fn mkfs(test: &str, sample: &Sample, options: &[&str]) -> Option<Vec<u8>> {
    let tar = tar_of(sample);
    let directory = TempDir::new().unwrap();
    let image = directory.path().join("image");
    let mut command = Command::new("mkfs.erofs");
    command
        .args(["--quiet", "--tar=f", "-T0", "--mkfs-time"])
        .args(options)
        .arg(&image)
        .stdin(Stdio::piped());
    let mut child = match command.stdout(Stdio::null()).spawn() {
        Ok(child) => child,
        Err(error) => {
            skip(test, format!("mkfs.erofs does not start: {error}"));
            return None;
        }
    };
    child.stdin.take().unwrap().write_all(&tar).unwrap();
    let status = child.wait().unwrap();
    assert!(status.success(), "mkfs.erofs {options:?}: {status}");
    Some(fs::read(image).unwrap())
}

/// The tar that an image of the sample gives.
pub(crate) fn tar_of(sample: &Sample) -> Vec<u8> {
    let ours = sample.image();
    let read = Image::open(ours.as_slice(), &Limits::default()).unwrap();
    let mut tar = Vec::new();
    write(&mut tar, read.tree(), &read, &Options::default()).unwrap();
    tar
}

/// What the tar of a sample holds: no sockets, and mode 0777 on every link.
pub(crate) fn as_tar(mut sample: Sample) -> Sample {
    for inode in &mut sample.tree.inodes {
        if matches!(inode.node, Node::Socket) {
            inode.node = Node::Fifo;
        }
        if matches!(inode.node, Node::Symlink(_)) {
            inode.metadata.mode = 0o777;
        }
    }
    sample
}

/// A sample whose inodes are alike in what a compact inode leaves out.
pub(crate) fn compact() -> Sample {
    let mut sample = Sample::new();
    let alike = |mode| Metadata { uid: 7, gid: 65_535, ..metadata(mode) };
    let directory = sample.directory(Tree::ROOT, b"directory", alike(0o755));
    let file = sample.file(directory, b"file", alike(0o644), &bytes(1, 5000));
    sample.link(Tree::ROOT, b"link", file);
    sample.file(directory, b"short", alike(0o600), b"in the inode");
    sample.file(directory, b"aligned", alike(0o600), &bytes(2, 8192));
    sample.add(directory, b"target", alike(0o777), Node::Symlink(b"file".to_vec()));
    sample.set_xattr(file, "user.some.attribute", b"value");
    sample.set_xattr(directory, "user.some.attribute", b"value");
    sample
}

#[test]
fn images_of_mkfs_are_read_in_every_shape() {
    let test = "images_of_mkfs_are_read_in_every_shape";
    let sample = compact();
    for options in SHAPES {
        let Some(image) = mkfs(test, &sample, options) else { return };
        own::assert_shows(&image, &listing::expected(&sample.tree), &sample.probes());
    }
}

#[test]
fn images_of_mkfs_with_random_trees_are_read() {
    let test = "images_of_mkfs_with_random_trees_are_read";
    let mut runner = TestRunner::deterministic();
    for round in 0..40 {
        let sample = as_tar(any_sample().new_tree(&mut runner).unwrap().current());
        let shape = SHAPES.iter().filter(|options| !options.contains(&"-Eforce-inode-compact"));
        let options = shape.cycle().nth(round).unwrap();
        let Some(image) = mkfs(test, &sample, options) else { return };
        own::assert_shows(&image, &listing::expected(&sample.tree), &sample.probes());
    }
}

#[test]
fn compressed_images_are_refused_by_name() {
    let mut sample = compact();
    sample.file(Tree::ROOT, b"compressible", metadata(0o644), &[7; 1 << 20]);
    let Some(image) = mkfs("compressed_images_are_refused_by_name", &sample, &["-zlz4"]) else { return };
    let error = Image::open(image.as_slice(), &Limits::default()).unwrap_err();
    let expected = matches!(error, Error::Unsupported(Unsupported::Compression | Unsupported::Features(_)));
    assert!(expected, "{error}");
}

#[test]
fn a_directory_inside_itself_is_damage() {
    let mut sample = Sample::new();
    let outer = sample.directory(Tree::ROOT, b"outer", metadata(0o755));
    sample.directory(outer, b"inner", metadata(0o755));
    let mut image = sample.image();
    // In the block of the inodes, the name of the innermost directory stands behind its parent's entries.
    let name = image.windows(8).position(|window| window == b"...inner").unwrap();
    let entry = name - 12;
    let parent: [u8; 8] = image[name - 36..name - 28].try_into().unwrap();
    image[entry..entry + 8].copy_from_slice(&parent);
    let error = Image::open(image.as_slice(), &Limits::default()).unwrap_err();
    assert!(matches!(error, Error::Damaged { damage: Damage::LinkedDirectory, .. }), "{error}");
}

#[test]
fn limits_are_kept() {
    let image = everything().image();
    let inodes = everything().tree.inodes.len() as u64;
    let open = |limits| Image::open(image.as_slice(), &limits);
    open(Limits { max_inodes: inodes, ..Limits::default() }).unwrap();
    let few = open(Limits { max_inodes: inodes - 1, ..Limits::default() }).unwrap_err();
    assert!(matches!(few, Error::TooMuch { what: "inodes", .. }), "{few}");
    let small = open(Limits { max_metadata_bytes: 1000, ..Limits::default() }).unwrap_err();
    assert!(matches!(small, Error::TooMuch { what: "bytes of metadata", limit: 1000 }), "{small}");
}

#[test]
fn an_image_that_is_cut_short_is_refused() {
    let image = everything().image();
    for length in [0, 1024, 4095, 4096, image.len() / 2, image.len() - 4096] {
        assert!(Image::open(&image[..length], &Limits::default()).is_err(), "{length} bytes");
    }
}

/// How much of each file of a damaged image is read.
const PIECE: u64 = 64 << 10;

/// Bytes to change: where, counted from the end of the superblock, and to what.
fn any_damage() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is wrong, it is an error or a tree whose files can be read to their ends.
    #[test]
    fn a_damaged_image_is_an_error_or_a_tree(sample in any_sample(), damage in any_damage()) {
        let mut image = sample.image();
        for (index, byte) in damage {
            let place = 4096 + index.index(image.len() - 4096);
            image[place] = byte;
        }
        let limits = Limits { max_inodes: 1000, max_metadata_bytes: 4 << 20 };
        if let Ok(read) = Image::open(image.as_slice(), &limits) {
            listing::visit(read.tree(), &mut |_, id, inode| {
                let Node::Regular(data) = &inode.node else { return };
                let mut file = read.open(id).unwrap().take(PIECE);
                let length = io::copy(&mut file, &mut io::sink()).unwrap();
                assert_eq!(length, data.size.min(PIECE));
            });
        }
    }
}

#[test]
fn times_of_compact_inodes_are_those_of_the_image() {
    let sample = compact();
    let test = "times_of_compact_inodes_are_those_of_the_image";
    let Some(image) = mkfs(test, &sample, &["-T1700000000", "--all-time", "-Eforce-inode-compact"]) else {
        return;
    };
    let read = Image::open(image.as_slice(), &Limits::default()).unwrap();
    let expected = Timestamp { seconds: 1_700_000_000, nanoseconds: 0 };
    assert!(read.tree().inodes.iter().all(|inode| inode.metadata.mtime == expected));
}
