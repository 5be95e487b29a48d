//! The TOML file: reading it and saying where in it something is wrong.

use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::fragment::Fragment;

/// A settings file in memory.
#[derive(Debug)]
pub(super) struct Document {
    path: PathBuf,
    text: String,
}

/// A line of a file, for a message.
#[derive(Debug)]
pub(super) struct Line {
    /// Counted from 1.
    pub(super) number: usize,
    /// Its text, without the blanks around it.
    pub(super) text: String,
}

impl Document {
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), text })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn parse(&self) -> Result<Fragment, ConfigError> {
        toml::from_str(&self.text).map_err(|error| {
            let line = self.line(error.span().map_or(0, |span| span.start));
            ConfigError::Syntax {
                path: self.path.clone(),
                line: line.number,
                text: line.text,
                message: error.message().to_owned(),
            }
        })
    }

    /// The line that holds the byte at `offset`.
    pub(super) fn line(&self, offset: usize) -> Line {
        let (before, after) = self.text.split_at_checked(offset).unwrap_or((&self.text, ""));
        let start = before.rsplit('\n').next().unwrap_or_default();
        let rest = after.split('\n').next().unwrap_or_default();
        Line {
            number: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
            text: format!("{start}{rest}").trim().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document {
        Document { path: PathBuf::from("settings.toml"), text: text.to_owned() }
    }

    #[test]
    fn a_byte_is_found_on_its_line() {
        let document = document("a = 1\n  b = 2\n");
        assert_eq!(document.line(0).number, 1);
        let second = document.line(8);
        assert_eq!((second.number, second.text.as_str()), (2, "b = 2"));
        assert_eq!(document.line(99).number, 3, "past the end is the end");
    }

    #[test]
    fn every_complaint_names_the_line() {
        for (text, line, word) in [
            ("root = 3", 1, "root = 3"),
            ("\n\nrooot = \"/x\"", 3, "rooot"),
            ("[profiles.a]\nsize = 3", 2, "size"),
            ("default_size = true", 1, "20GiB"),
            ("root = \"/a\"\nroot = \"/b\"", 2, "duplicate"),
            ("root = ", 1, "root ="),
        ] {
            let error = document(text).parse().expect_err(text).to_string();
            assert!(error.contains(&format!("settings.toml:{line}: ")), "{error}");
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn the_documents_example_is_valid() {
        let operations = include_str!("../../docs/operations.md");
        let blocks = operations.split("```toml\n").skip(1);
        let examples: Vec<_> = blocks.filter_map(|block| block.split("```").next()).collect();
        assert_eq!(examples.len(), 1);
        let fragment = document(examples[0]).parse().expect("a valid example");
        assert!(fragment.profiles.contains_key("nexuserofs-quota"));
    }
}
