//! Images read back by the independent reader and by ours.

use nexuserofs::image::erofs::Superblock;
use nexuserofs::image::tree::{Node, Tree};
use proptest::prelude::*;

use crate::everything::everything;
use crate::independent;
use crate::listing;
use crate::own;
use crate::random::any_sample;
use crate::sample::{Sample, metadata};

#[test]
fn everything_reads_back() {
    assert_reads_back(&everything());
}

#[test]
fn a_directory_of_50_000_entries_reads_back() {
    let mut sample = Sample::new();
    let directory = sample.directory(Tree::ROOT, b"many", metadata(0o755));
    for i in 0..50_000 {
        sample.add(directory, format!("entry number {i}").as_bytes(), metadata(0o644), Node::Fifo);
    }
    assert_reads_back(&sample);
}

#[test]
fn the_superblock_tells_size_and_count() {
    let image = everything().image();
    let superblock = Superblock::parse(&image).unwrap();
    assert_eq!(superblock.image_size(), image.len() as u64);
    assert_eq!(superblock.inodes, everything().tree.inodes.len() as u64);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn random_trees_read_back_and_are_the_same_twice(sample in any_sample()) {
        assert_reads_back(&sample);
        prop_assert!(sample.image() == sample.image());
    }
}

fn assert_reads_back(sample: &Sample) {
    let (image, expected, probes) = (sample.image(), listing::expected(&sample.tree), sample.probes());
    independent::assert_shows(&image, &expected, &probes);
    own::assert_shows(&image, &expected, &probes);
}
