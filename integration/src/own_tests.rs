//! Tests of our own that run on any machine and skip there what the machine lacks: run where nothing is lacking,
//! so that a skip on the machine is no gap.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::command::Run;

/// Some of the tests in one of the project's test programs.
#[derive(Clone, Copy, Debug)]
pub struct OwnTests {
    /// The program.
    pub program: &'static str,
    /// A word in the names of those that are run.
    pub word: &'static str,
    /// How the names of those begin that skip something here too.
    pub may_skip: &'static [&'static str],
}

impl OwnTests {
    /// Runs them. The program lies in `programs`; what they write goes below `scratch`.
    ///
    /// # Errors
    /// One of them fails, one skips that may not, or there is none.
    pub fn run(&self, programs: &Path, scratch: &Path) -> Result<()> {
        let Self { program, word, may_skip } = self;
        // The test bed's disk takes longer paths than a socket.
        let temporary = scratch.join("tmp");
        fs::create_dir_all(&temporary)?;
        let run = Run::new(programs.join(program)).args([word, "--test-threads=1"]).env("TMPDIR", &temporary);
        let (output, errors) = run.both()?;
        ensure!(!output.contains("running 0 tests"), "no test has {word} in its name");
        let skipped = errors.lines().filter_map(|line| line.strip_prefix("SKIPPED "));
        let (expected, unexpected): (Vec<&str>, Vec<&str>) =
            skipped.partition(|test| may_skip.iter().any(|word| test.starts_with(word)));
        ensure!(unexpected.is_empty(), "skipped where it should run: {unexpected:?}");
        expected.iter().for_each(|test| println!("here, too: skipped {test}"));
        Ok(())
    }
}
