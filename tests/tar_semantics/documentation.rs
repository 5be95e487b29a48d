//! Keeps `docs/tar-semantics.md` and the tests together: each row names a test that exists, and each
//! test of a case is named by a row.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The files that hold cases.
const CASES: [&str; 11] = [
    "types",
    "paths",
    "duplicates",
    "links",
    "whiteouts",
    "xattrs",
    "sparse",
    "formats",
    "truncation",
    "limits",
    "writing",
];

/// Tests as `module::name`.
fn tests() -> BTreeSet<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tar_semantics");
    let names = |module: &str| {
        let text = fs::read_to_string(directory.join(module).with_extension("rs")).unwrap();
        let after_test = text.split("#[test]\nfn ").skip(1);
        let names = after_test.map(|rest| rest.split('(').next().unwrap().to_owned());
        names.map(|name| format!("{module}::{name}")).collect::<Vec<_>>()
    };
    CASES.into_iter().flat_map(names).collect()
}

/// The tests in the last cell of each row of a table, after the row of dashes.
fn rows() -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tar-semantics.md");
    let text = fs::read_to_string(path).unwrap();
    let is_row = |line: &&str| line.starts_with("| ") && !line.starts_with("| Case");
    let cells =
        text.lines().filter(is_row).map(|line| line.trim_end_matches('|').rsplit('|').next().unwrap());
    cells.map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()).collect()
}

#[test]
fn every_row_names_a_test_and_every_test_has_a_row() {
    let rows = rows();
    assert!(rows.len() > 40, "{} rows", rows.len());
    assert!(rows.iter().all(|names| !names.is_empty()), "a row without a test");
    let named: BTreeSet<String> = rows.into_iter().flatten().collect();
    let tests = tests();
    assert_eq!(named.difference(&tests).collect::<Vec<_>>(), [""; 0], "named, but no test");
    assert_eq!(tests.difference(&named).collect::<Vec<_>>(), [""; 0], "tests without a row");
}
