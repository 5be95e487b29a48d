//! Tests of our own that need mkfs.erofs, which the machine may not have: images that it makes, as our reader
//! reads them.

use std::process::ExitCode;

use anyhow::Result;
use nexuserofs_integration::bed::{Bed, Needs};
use nexuserofs_integration::harness::{self, Test};
use nexuserofs_integration::own_tests::OwnTests;

const TESTS: &[Test] = &[
    Test { name: "images_of_mkfs_are_read", run: |bed| run(bed, "foreign::") },
    Test { name: "images_of_mkfs_are_taken_over", run: |bed| run(bed, "taken_over::") },
];

/// The program of `tests/erofs`.
const PROGRAM: &str = "erofs";

fn main() -> Result<ExitCode> {
    harness::main(Needs { tests: &[PROGRAM], ..Needs::default() }, TESTS)
}

fn run(bed: &Bed, word: &'static str) -> Result<()> {
    OwnTests { program: PROGRAM, word, may_skip: &[] }.run(bed.place.own_tests(), &bed.place.scratch)
}
