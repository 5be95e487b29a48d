//! What a Go test program prints with `-test.v`: which tests ended how, and how long each took.
//!
//! Format: the lines `--- PASS: NAME (SECONDS)` of Go's package `testing`, indented for subtests.

use std::time::Duration;

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It held.
    Passed,
    /// It did not.
    Failed,
    /// It did not run.
    Skipped,
}

/// A test that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its name, without those of the tests that it is part of.
    pub name: String,
    /// How it ended.
    pub ending: Ending,
    /// How long it took, to a hundredth of a second.
    pub took: Duration,
}

/// The subtests of the test `of`, in the order of their ends.
#[must_use]
pub fn subtests(of: &str, output: &str) -> Vec<Ended> {
    let prefix = format!("{of}/");
    output
        .lines()
        .filter_map(ended)
        .filter_map(|test| Some(Ended { name: test.name.strip_prefix(&prefix)?.to_owned(), ..test }))
        .collect()
}

fn ended(line: &str) -> Option<Ended> {
    let (ending, rest) = line.trim_start().strip_prefix("--- ")?.split_once(": ")?;
    let ending = match ending {
        "PASS" => Ending::Passed,
        "FAIL" => Ending::Failed,
        "SKIP" => Ending::Skipped,
        _ => return None,
    };
    let (name, seconds) = rest.trim_end().strip_suffix("s)")?.rsplit_once(" (")?;
    let took = Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?;
    Some(Ended { name: name.to_owned(), ending, took })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subtests_are_found_among_other_lines() {
        let output = "=== RUN   TestOne\n\
            === RUN   TestOne/First\n\
            --- FAIL: TestOne (0.00s)\n    \
                --- PASS: TestOne/First (1.25s)\n    \
                --- SKIP: TestOne/Second (0.00s)\n        \
                    suite.go:12: --- not a result\n    \
                --- FAIL: TestOne/Third (61.00s)\n\
            --- PASS: TestTwo/First (0.00s)\n\
            FAIL\n";
        let test = |name: &str, ending, milliseconds| Ended {
            name: name.to_owned(),
            ending,
            took: Duration::from_millis(milliseconds),
        };
        let expected = [
            test("First", Ending::Passed, 1250),
            test("Second", Ending::Skipped, 0),
            test("Third", Ending::Failed, 61_000),
        ];
        assert_eq!(subtests("TestOne", output), expected);
    }
}
