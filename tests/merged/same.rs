//! Whether two mounts show the same.

use std::fs;
use std::path::Path;

use crate::listing::{self, Listing};
use crate::mounted::{list, place};

/// Fails unless two directories show the same names, facts and bytes.
pub(crate) fn assert_same(found: &Path, expected: &Path) {
    let (found_facts, expected_facts) = (comparable(found), comparable(expected));
    listing::assert_same(&found_facts, &expected_facts);
    let is_file = |mode: u32| mode & 0o170_000 == 0o100_000;
    for (path, _) in expected_facts.iter().filter(|(_, facts)| is_file(facts.mode)) {
        let read = |top: &Path| fs::read(place(top, path)).unwrap();
        assert!(read(found) == read(expected), "the bytes of {} differ", path.escape_ascii());
    }
}

/// Facts that a mount and an overlay agree on: overlayfs counts the links of the layer that a file is from,
/// among them names that it hides, and none of a directory.
fn comparable(top: &Path) -> Listing {
    let mut listing = list(top);
    listing.values_mut().for_each(|facts| facts.links = 0);
    listing
}
