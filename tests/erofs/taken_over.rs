//! Images that the kernel is to mount though someone else made them: all that mkfs.erofs makes in one file is
//! read, and whatever the kernel would believe and should not is refused.

use nexuserofs::image::erofs::read::{Damage, Error, Image, Limits, Unsupported};
use nexuserofs::image::tree::{Contents as _, Node, Tree};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

use crate::foreign::{as_tar, compact, mkfs, tar_of};
use crate::listing;
use crate::own;
use crate::random::any_sample;
use crate::sample::{Sample, metadata};

/// Options of mkfs.erofs for images without compression that layout v1 cannot be.
const BLOCK_SIZES: [&[&str]; 4] =
    [&["-b512"], &["-b1024", "-Enoinline_data"], &["-b2048"], &["--chunksize=4096"]];

/// Options of mkfs.erofs for compressed images.
pub(crate) const COMPRESSED: [&[&str]; 5] = [
    &["-zlz4"],
    &["-zlz4hc", "-C65536", "-Elegacy-compress"],
    &["-zlz4", "-Eztailpacking"],
    &["-zzstd", "-Eall-fragments"],
    &["-zdeflate", "-Ededupe", "-b4096"],
];

fn open(image: &[u8]) -> Result<Image<&[u8]>, Error> {
    Image::open_foreign(image, image.len() as u64, &Limits::default())
}

/// What the format cannot hold beside compressible data: nothing.
fn compressible() -> Sample {
    let mut sample = compact();
    sample.file(Tree::ROOT, b"compressible", metadata(0o644), &[7; 300_000]);
    sample.file(Tree::ROOT, b"text", metadata(0o644), "line of text\n".repeat(5000).as_bytes());
    sample
}

#[test]
fn images_of_smaller_blocks_are_read() {
    let test = "images_of_smaller_blocks_are_read";
    let mut runner = TestRunner::deterministic();
    for round in 0..24 {
        let sample = as_tar(any_sample().new_tree(&mut runner).unwrap().current());
        let Some(image) = mkfs(test, &sample, BLOCK_SIZES[round % BLOCK_SIZES.len()]) else { return };
        own::assert_read(&open(&image).unwrap(), &listing::expected(&sample.tree), &sample.probes());
    }
}

#[test]
fn a_tar_with_an_index_is_read() {
    let test = "a_tar_with_an_index_is_read";
    let mut runner = TestRunner::deterministic();
    for _ in 0..10 {
        let sample = as_tar(any_sample().new_tree(&mut runner).unwrap().current());
        let Some(mut image) = mkfs(test, &sample, &["--tar=i"]) else { return };
        assert!(matches!(open(&image), Err(Error::Damaged { damage: Damage::CutShort { .. }, .. })));
        image.extend(tar_of(&sample));
        own::assert_read(&open(&image).unwrap(), &listing::expected(&sample.tree), &sample.probes());
    }
}

#[test]
fn compressed_images_show_everything_but_the_data() {
    let test = "compressed_images_show_everything_but_the_data";
    let sample = compressible();
    for options in COMPRESSED {
        let Some(image) = mkfs(test, &sample, options) else { return };
        let read = open(&image).unwrap_or_else(|error| panic!("{options:?}: {error}"));
        assert!(read.is_compressed(), "{options:?}");
        listing::assert_same(&listing::expected(read.tree()), &listing::expected(&sample.tree));
        let Node::Directory(root) = &read.tree().inode(Tree::ROOT).node else { panic!("no root") };
        let refused = read.open(root.entries[b"compressible".as_slice()]).err().unwrap();
        assert_eq!(refused.kind(), std::io::ErrorKind::Unsupported, "{options:?}");
    }
}

/// An image of ours with two files in a directory, and where the entries of that directory are.
fn two_files() -> (Vec<u8>, usize) {
    let mut sample = Sample::new();
    let directory = sample.directory(Tree::ROOT, b"directory", metadata(0o755));
    sample.file(directory, b"first", metadata(0o644), b"1");
    sample.file(directory, b"later", metadata(0o644), b"2");
    let image = sample.image();
    // Behind four entries of 12 bytes each stand their names.
    let names = image.windows(13).position(|window| window == b"...firstlater").unwrap();
    (image, names - 48)
}

fn assert_damaged(image: &[u8], expected: Damage) {
    match open(image).unwrap_err() {
        Error::Damaged { damage, .. } => assert_eq!(damage, expected),
        other => panic!("{other} instead of: {expected}"),
    }
}

#[test]
fn names_among_which_the_kernel_would_not_find_all_are_damage() {
    let (mut image, entries) = two_files();
    image[entries + 48 + 3] = b'z';
    assert_damaged(&image, Damage::EntryOrder);
}

#[test]
fn entries_that_hide_what_they_name_are_damage() {
    let (mut image, entries) = two_files();
    let kind = entries + 2 * 12 + 10;
    assert_eq!(image[kind], 1, "a regular file");
    image[kind] = 3;
    assert_damaged(&image, Damage::EntryType(3));
}

#[test]
fn dots_that_lead_elsewhere_are_damage() {
    for entry in 0..2 {
        let (mut image, entries) = two_files();
        image[entries + entry * 12] ^= 2;
        assert_damaged(&image, Damage::Dots);
    }
}

#[test]
fn files_with_other_numbers_of_names_than_they_say_are_damage() {
    let (mut image, entries) = two_files();
    let nid = u64::from_le_bytes(image[entries + 24..entries + 32].try_into().unwrap());
    let meta_block = u32::from_le_bytes(image[1024 + 40..1024 + 44].try_into().unwrap());
    let inode = meta_block as usize * 4096 + nid as usize * 32;
    image[inode + 44] = 2;
    assert_damaged(&image, Damage::Links { said: 2, found: 1 });
}

#[test]
fn images_on_several_devices_are_refused() {
    let (mut image, _) = two_files();
    image[1024 + 86] = 2;
    repair(&mut image);
    assert!(matches!(open(&image), Err(Error::Unsupported(Unsupported::ExtraDevices(2)))));
    // One device needs the feature that announces it.
    image[1024 + 86] = 1;
    repair(&mut image);
    assert!(matches!(open(&image), Err(Error::Unsupported(Unsupported::ExtraDevices(1)))));
    // One device has to be behind the image in the same file.
    image[1024 + 80] |= 8;
    image[1024 + 88] = 1;
    repair(&mut image);
    assert!(matches!(open(&image), Err(Error::Damaged { damage: Damage::Device { .. }, .. })));
}

#[test]
fn features_without_a_name_are_refused() {
    for feature in [0x80, 0x100, 0x200, 0x8000_0000_u32] {
        let (mut image, _) = two_files();
        image[1024 + 80..1024 + 84].copy_from_slice(&feature.to_le_bytes());
        repair(&mut image);
        assert!(
            matches!(open(&image), Err(Error::Unsupported(Unsupported::Features(found))) if found == feature)
        );
    }
}

/// Puts the right checksum into the superblock.
fn repair(image: &mut [u8]) {
    image[1028..1032].fill(0);
    let checksum = !crc32c::crc32c(&image[1024..4096]);
    image[1028..1032].copy_from_slice(&checksum.to_le_bytes());
}
