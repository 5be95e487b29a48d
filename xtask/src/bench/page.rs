//! docs/benchmarks.md: one section for each benchmark, each replaced by its own benchmark alone.
//!
//! A section begins with a first-level heading and ends before the next. The headings name the sections.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};

/// Where results are kept, below the project.
const PAGE: &str = "docs/benchmarks.md";

/// Puts a section in the place of the one with the same heading, or at the end.
///
/// # Errors
/// The page cannot be read or written.
pub(super) fn put(project: &Path, section: &str) -> Result<()> {
    let path = project.join(PAGE);
    let page = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        page => page.with_context(|| format!("read {}", path.display()))?,
    };
    fs::write(&path, replaced(&page, section)).with_context(|| format!("write {}", path.display()))
}

/// The page with this section in it.
fn replaced(page: &str, section: &str) -> String {
    let heading = |text: &str| text.lines().next().unwrap_or_default().to_owned();
    let mut sections = sections(page);
    match sections.iter_mut().find(|old| heading(old) == heading(section)) {
        Some(old) => section.clone_into(old),
        None => sections.push(section.to_owned()),
    }
    let texts: Vec<&str> = sections.iter().map(|section| section.trim_end()).collect();
    texts.join("\n\n") + "\n"
}

fn sections(page: &str) -> Vec<String> {
    let mut sections: Vec<String> = Vec::new();
    for line in page.split_inclusive('\n') {
        match sections.last_mut() {
            Some(section) if !line.starts_with("# ") => section.push_str(line),
            _ => sections.push(line.to_owned()),
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# One\n\na\n\n## Detail\n\n    # code\n\n# Two\n\nb\n";

    #[test]
    fn a_section_replaces_its_own_and_no_other() {
        assert_eq!(replaced(PAGE, "# One\n\nc\n"), "# One\n\nc\n\n# Two\n\nb\n");
        assert_eq!(replaced(PAGE, "# Two\n\nc\n"), "# One\n\na\n\n## Detail\n\n    # code\n\n# Two\n\nc\n");
    }

    #[test]
    fn a_new_section_comes_last() {
        assert_eq!(replaced("", "# One\n\na\n"), "# One\n\na\n");
        assert_eq!(replaced("# One\n\na\n", "# Two\n\nb\n"), "# One\n\na\n\n# Two\n\nb\n");
    }
}
