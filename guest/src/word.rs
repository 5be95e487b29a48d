//! Short texts that need no quoting anywhere.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// 1 to 255 ASCII letters, digits and `. _ - : / @ +`: enough for platforms, serials, labels and references
/// of images, and the same bytes in JSON, on a kernel command line and in a log.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Word(String);

/// A text that is no such word.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is not a word: expected 1 to 255 ASCII letters, digits and . _ - : / @ +")]
pub struct InvalidWord {
    text: String,
}

const LONGEST: usize = 255;

impl Word {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Word {
    type Err = InvalidWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:/@+".contains(&byte);
        let is_valid = (1..=LONGEST).contains(&text.len()) && text.bytes().all(is_plain);
        if is_valid { Ok(Self(text.to_owned())) } else { Err(InvalidWord { text: text.to_owned() }) }
    }
}

impl From<Word> for String {
    fn from(word: Word) -> Self {
        word.0
    }
}

impl TryFrom<String> for Word {
    type Error = InvalidWord;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_need_quoting_are_refused() {
        for valid in ["amd64", "registry.example:5000/a/b@sha256:00", &"w".repeat(255)] {
            assert_eq!(valid.parse::<Word>().unwrap().as_str(), valid);
        }
        for invalid in ["", "a b", "a\"", "a\\", "a,b", "a=b", "ä", "a\n", &"w".repeat(256)] {
            assert!(invalid.parse::<Word>().is_err(), "{invalid:?}");
        }
    }
}
