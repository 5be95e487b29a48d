//! `docs/compatibility.md` names tests as evidence: they have to be there.

use std::fs;

use crate::bed::project;

/// The texts between backquotes.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

#[test]
fn every_test_that_the_document_on_compatibility_names_exists() {
    let document = fs::read_to_string(project().join("docs/compatibility.md")).unwrap();
    let mut named = 0;
    for line in document.lines().filter(|line| line.starts_with("| ") && line.contains(".rs`")) {
        let evidence = line.trim_end_matches([' ', '|']).rsplit('|').next().unwrap();
        let (files, tests): (Vec<&str>, Vec<&str>) = quoted(evidence).partition(|text| text.ends_with(".rs"));
        let sources: Vec<String> =
            files.iter().map(|file| fs::read_to_string(project().join(file)).expect(file)).collect();
        for test in tests {
            assert!(sources.iter().any(|source| source.contains(test)), "no {test} in {files:?}");
            named += 1;
        }
    }
    assert!(named > 20, "only {named} tests are named: is the table still a table?");
}
