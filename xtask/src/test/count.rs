//! Counting tests by what cargo's test programs print.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::ops::AddAssign;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result};

/// How many tests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl Count {
    /// One check that passed.
    pub(crate) const PASSED: Self = Self { passed: 1, failed: 0, skipped: 0 };
    /// One check that failed.
    pub(crate) const FAILED: Self = Self { passed: 0, failed: 1, skipped: 0 };

    /// Runs a command that is one check, with its output as it comes.
    ///
    /// # Errors
    /// The command cannot be started.
    pub(crate) fn of_check(mut command: Command) -> Result<Self> {
        let status = command.status().with_context(|| format!("start {command:?}"))?;
        Ok(if status.success() { Self::PASSED } else { Self::FAILED })
    }

    /// Runs a command that prints results as cargo's test programs do, and adds them up. A command that
    /// fails without naming a failed test is one failure.
    ///
    /// # Errors
    /// The command cannot be started.
    pub(crate) fn of_tests(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        let stdout = child.stdout.take().context("the command has no output")?;
        let stderr = child.stderr.take().context("the command has no standard error")?;
        let mut count = thread::scope(|scope| {
            let skipped = scope.spawn(|| Self::of_stderr(stderr));
            let count = Self::of_stdout(stdout)?;
            let skipped = skipped.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            anyhow::Ok(count.without(skipped))
        })?;
        if !child.wait()?.success() && count.failed == 0 {
            count += Self::FAILED;
        }
        Ok(count)
    }

    /// Adds up the results and shows everything that is printed.
    fn of_stdout(stdout: impl Read) -> Result<Self> {
        let mut count = Self::default();
        for line in BufReader::new(stdout).lines() {
            let line = line.context("read the tests' output")?;
            println!("{line}");
            count += Self::of_line(&line).unwrap_or_default();
        }
        Ok(count)
    }

    /// Counts the tests that say `SKIPPED TEST: REASON` past the harness, as `tests/helpers/skipped.rs` writes
    /// it, and shows everything that is printed.
    fn of_stderr(stderr: impl Read) -> Result<u64> {
        let mut skipped = BTreeSet::new();
        for line in BufReader::new(stderr).lines() {
            let line = line.context("read the tests' standard error")?;
            eprintln!("{line}");
            if let Some((test, _)) = line.strip_prefix("SKIPPED ").and_then(|said| said.split_once(": ")) {
                skipped.insert(test.to_owned());
            }
        }
        Ok(skipped.len() as u64)
    }

    /// The harness takes a test for passed that skipped a part of itself, or all of it.
    const fn without(self, skipped: u64) -> Self {
        Self {
            passed: self.passed.saturating_sub(skipped),
            failed: self.failed,
            skipped: self.skipped + skipped,
        }
    }

    /// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    fn of_line(line: &str) -> Option<Self> {
        let results = line.trim().strip_prefix("test result: ")?;
        let (_, results) = results.split_once(". ")?;
        let number = |name: &str| {
            let part = results.split("; ").find_map(|part| part.strip_suffix(name))?;
            part.trim().parse().ok()
        };
        Some(Self { passed: number("passed")?, failed: number("failed")?, skipped: number("ignored")? })
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_read() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.07s";
        assert_eq!(Count::of_line(line), Some(Count { passed: 12, failed: 3, skipped: 1 }));
        assert_eq!(Count::of_line("test a::b ... ok"), None);
    }

    #[test]
    fn a_test_that_says_that_it_did_not_run_is_no_pass() {
        let mut skips = Command::new("sh");
        let output = "echo 'SKIPPED one: no kernel' >&2; echo 'SKIPPED one: no root' >&2; echo 'warning: SKIPPED is not first' >&2; \
                      echo 'test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured'";
        skips.args(["-c", output]);
        let count = Count::of_tests(skips).unwrap();
        assert_eq!(count, Count { passed: 2, failed: 0, skipped: 2 });
    }

    #[test]
    fn a_command_that_dies_is_a_failure() {
        let mut dies = Command::new("sh");
        dies.args(["-c", "echo 'test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured'; exit 101"]);
        let count = Count::of_tests(dies).unwrap();
        assert_eq!(count, Count { passed: 1, failed: 1, skipped: 0 });
    }
}
