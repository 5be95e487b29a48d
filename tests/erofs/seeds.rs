//! The seeds of the fuzz targets `erofs` and `foreign`, in `fuzz/seeds`: small images of ours, and what
//! mkfs.erofs makes of the same trees in other shapes.

use std::fs;
use std::path::Path;

use nexuserofs::image::erofs::read::{Image, Limits};
use nexuserofs::image::tree::{BLOCK_SIZE, Node, Tree};

use crate::foreign::{self, SHAPES};
use crate::sample::{Run, Sample, bytes, metadata};

/// Set to any value, this variable lets the test write the files; those of mkfs.erofs if there is one.
const UPDATE: &str = "UPDATE_SEEDS";

/// What libFuzzer may not exceed, in bytes (`xtask/src/fuzz.rs`).
const MAX_SIZE: usize = 16 << 10;

#[test]
fn the_files_are_the_seeds_and_all_are_read() {
    let test = "the_files_are_the_seeds_and_all_are_read";
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/erofs");
    let ours = [("types", types().image()), ("data", data().image()), ("xattrs", xattrs().image())];
    if std::env::var_os(UPDATE).is_some() {
        fs::create_dir_all(&directory).unwrap();
        for (name, image) in &ours {
            fs::write(directory.join(name), image).unwrap();
        }
        for (number, options) in SHAPES.iter().enumerate() {
            if let Some(image) = foreign::mkfs(test, &some_of_each(), options) {
                fs::write(directory.join(format!("mkfs-{number}")), image).unwrap();
            }
        }
    }
    for (name, image) in &ours {
        let file = fs::read(directory.join(name)).unwrap_or_default();
        assert!(file == *image, "run this test with {UPDATE}=1 to write {name} in {}", directory.display());
    }
    for file in fs::read_dir(&directory).unwrap() {
        let path = file.unwrap().path();
        let image = fs::read(&path).unwrap();
        assert!(image.len() <= MAX_SIZE, "{} is too large to be mutated", path.display());
        Image::open(image, &Limits::default()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// Shapes that only the reader of foreign images takes. A tar's index gets zeros for a tar.
const FOREIGN: [&[&str]; 6] = [
    &["-b512"],
    &["-b2048"],
    &["-zlz4"],
    &["-zlz4", "-Eztailpacking,legacy-compress"],
    &["-zzstd", "-Eall-fragments"],
    &["--tar=i"],
];

#[test]
fn the_seeds_of_foreign_images_are_read() {
    let test = "the_seeds_of_foreign_images_are_read";
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/foreign");
    if std::env::var_os(UPDATE).is_some() {
        fs::create_dir_all(&directory).unwrap();
        for (number, options) in FOREIGN.iter().enumerate() {
            let Some(mut image) = foreign::mkfs(test, &with_text(), options) else { return };
            if options.contains(&"--tar=i") {
                image.resize(MAX_SIZE, 0);
            }
            fs::write(directory.join(format!("mkfs-{number}")), image).unwrap();
        }
    }
    let files = fs::read_dir(&directory).unwrap().map(|file| file.unwrap().path());
    let images: Vec<_> = files.map(|path| fs::read(path).unwrap()).collect();
    assert_eq!(images.len(), FOREIGN.len());
    for image in images {
        assert!(image.len() <= MAX_SIZE);
        Image::open_foreign(image.as_slice(), image.len() as u64, &Limits::default()).unwrap();
    }
}

/// Something that gets shorter by compression beside what does not.
fn with_text() -> Sample {
    let mut sample = some_of_each();
    sample.file(Tree::ROOT, b"text", metadata(0o644), "a line of text\n".repeat(200).as_bytes());
    sample
}

fn types() -> Sample {
    let mut sample = Sample::new();
    let directory = sample.directory(Tree::ROOT, b"directory", metadata(0o755));
    let file = sample.file(directory, b"file", metadata(0o4755), b"data");
    sample.link(Tree::ROOT, b"link", file);
    sample.add(Tree::ROOT, b"symlink", metadata(0o777), Node::Symlink(b"directory/file".to_vec()));
    for (name, node) in [(b"fifo".as_slice(), Node::Fifo), (b"socket", Node::Socket)] {
        sample.add(directory, name, metadata(0o600), node);
    }
    sample.device(b"null", 1, 3);
    sample.device(b"whiteout", 0, 0);
    sample
}

/// What mkfs.erofs has several shapes for.
fn some_of_each() -> Sample {
    let mut sample = Sample::new();
    let file = sample.file(Tree::ROOT, b"file", metadata(0o644), &bytes(1, 4100));
    sample.file(Tree::ROOT, b"short", metadata(0o644), b"in the inode");
    sample.add(Tree::ROOT, b"symlink", metadata(0o777), Node::Symlink(b"file".to_vec()));
    for id in [Tree::ROOT, file] {
        sample.set_xattr(id, "user.some.attribute", b"value");
        sample.set_xattr(id, "trusted.name", b"value");
    }
    sample
}

fn data() -> Sample {
    let mut sample = Sample::new();
    sample.file(Tree::ROOT, b"empty", metadata(0o644), b"");
    let run = Run { file_block: 2, bytes: bytes(1, 10) };
    sample.sparse(Tree::ROOT, b"sparse", metadata(0o644), 5 * BLOCK_SIZE + 1, vec![run]);
    sample
}

fn xattrs() -> Sample {
    let mut sample = Sample::new();
    for name in ["a", "b", "c"] {
        let file = sample.file(Tree::ROOT, name.as_bytes(), metadata(0o644), b"");
        sample.set_xattr(file, "security.selinux", b"system_u:object_r:etc_t:s0");
        sample.set_xattr(file, "user.own", name.as_bytes());
    }
    sample
}
