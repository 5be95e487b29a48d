//! The one way in which a test says that it did not run: `SKIPPED <test>: <reason>`.

use std::fmt::Display;
use std::io::Write as _;

/// Says that `test` does not run here, and why, past the harness, which hides what passing tests print.
pub(crate) fn skip(test: &str, reason: impl Display) {
    let line = format!("SKIPPED {test}: {reason}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}
