//! Images through the kernel.

use std::fs;

use nexuserofs::image::tree::{Node, Timestamp, Tree};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use tempfile::NamedTempFile;

use crate::everything::everything;
use crate::listing;
use crate::mounted::{self, Skipped};
use crate::random::any_sample;
use crate::sample::{Run, Sample, bytes, metadata};

#[test]
fn kernel_shows_everything() {
    let _ = assert_kernel_agrees("kernel_shows_everything", &everything());
}

#[test]
fn kernel_shows_a_directory_of_50_000_entries() {
    let mut sample = Sample::new();
    let directory = sample.directory(Tree::ROOT, b"many", metadata(0o755));
    for i in 0..50_000 {
        sample.add(directory, format!("entry number {i}").as_bytes(), metadata(0o644), Node::Fifo);
    }
    let _ = assert_kernel_agrees("kernel_shows_a_directory_of_50_000_entries", &sample);
}

#[test]
fn kernel_shows_the_ends_of_time() {
    let mut sample = Sample::new();
    for (name, seconds) in [("first", i64::MIN), ("before", -1), ("epoch", 0), ("last", i64::MAX)] {
        let mut metadata = metadata(0o644);
        metadata.mtime = Timestamp { seconds, nanoseconds: 999_999_999 };
        sample.file(Tree::ROOT, name.as_bytes(), metadata, b"x");
    }
    let _ = assert_kernel_agrees("kernel_shows_the_ends_of_time", &sample);
}

#[test]
fn kernel_reads_past_4_gib() {
    let mut sample = Sample::new();
    let run = |file_block, size| Run { file_block, bytes: bytes(3, size) };
    let runs = vec![run(0, 4096), run(1 << 20, 8 << 20), run((1 << 20) + 5000, 4097)];
    sample.sparse(Tree::ROOT, b"file", metadata(0o644), (1 << 32) + 5000 * 4096 + 4097, runs);
    let _ = assert_kernel_agrees("kernel_reads_past_4_gib", &sample);
}

#[test]
fn kernel_shows_random_trees() {
    let mut runner = TestRunner::deterministic();
    for _ in 0..50 {
        let Ok(sample) = any_sample().new_tree(&mut runner) else { continue };
        if assert_kernel_agrees("kernel_shows_random_trees", &sample.current()).is_err() {
            return;
        }
    }
}

fn assert_kernel_agrees(test: &str, sample: &Sample) -> Result<(), Skipped> {
    let image = NamedTempFile::new().unwrap();
    fs::write(&image, sample.image()).unwrap();
    mounted::assert_shows(test, image.path(), &listing::expected(&sample.tree), &sample.probes())
}
