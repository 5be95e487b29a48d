//! What a device is called.

use std::fmt;
use std::str::FromStr;

/// The name of a device: up to 127 ASCII letters, digits, and `-`, `_`, `.`, `+`. The kernel would take
/// more, but then tools of others show it mangled.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

/// A text that is no such name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is no name for a device: expected up to 127 ASCII letters, digits, and - _ . +")]
pub struct InvalidName {
    text: String,
}

/// `DM_NAME_LEN` with its closing NUL.
const LONGEST: usize = 127;

impl Name {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
        let is_valid = (1..=LONGEST).contains(&text.len()) && text.bytes().all(is_plain);
        if is_valid { Ok(Self(text.to_owned())) } else { Err(InvalidName { text: text.to_owned() }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_tools_would_mangle_are_refused() {
        for valid in ["nexuserofs-l1-0123.a_b+c", &"n".repeat(127)] {
            assert_eq!(valid.parse::<Name>().unwrap().as_str(), valid);
        }
        for invalid in ["", "a/b", "a b", "ä", "a\0", &"n".repeat(128)] {
            assert!(invalid.parse::<Name>().is_err(), "{invalid:?}");
        }
    }
}
