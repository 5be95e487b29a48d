//! `docs/compatibility.md` and `docs/threat-model.md` name tests as evidence: they have to be there.

use std::fs;
use std::path::Path;

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

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let document = fs::read_to_string(project().join("docs/threat-model.md")).unwrap();
    let mut sources = String::new();
    for directory in ["guest/src", "integration/tests", "tests"] {
        read_below(&project().join(directory), &mut sources);
    }
    let mut named = 0;
    for line in document.lines().filter(|line| line.starts_with("| ")) {
        let evidence = line.trim_end_matches([' ', '|']).rsplit('|').next().unwrap();
        let (places, tests): (Vec<&str>, Vec<&str>) = quoted(evidence).partition(|text| text.contains('/'));
        for place in places {
            assert!(project().join(place).exists(), "there is no {place}");
        }
        for test in tests {
            let is_there =
                [format!("fn {test}("), format!("\"{test}\"")].iter().any(|text| sources.contains(text));
            assert!(is_there, "there is no test {test}");
            named += 1;
        }
    }
    assert!(named > 50, "only {named} tests are named: is the table still a table?");
}

/// The text of every source file below a directory.
fn read_below(directory: &Path, into: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_below(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}
