//! Names that are never given twice.

use std::fmt;
use std::str::FromStr;

use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};

/// 128 random bits. Its text, 32 lower-case hex digits, serves as a directory name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Unique(u128);

/// A text that is not 32 lower-case hex digits.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not an identifier: expected 32 lower-case hex digits")]
pub struct InvalidUnique(String);

impl Unique {
    /// A new name, from the kernel's random number generator.
    ///
    /// # Errors
    /// If the kernel has no randomness to give, which happens only early in boot.
    pub fn new() -> std::io::Result<Self> {
        let mut bytes = [0; 16];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            filled += getrandom(rest, GetRandomFlags::empty())?;
        }
        Ok(Self(u128::from_be_bytes(bytes)))
    }

    /// The 16 bytes, in the order of the text.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for Unique {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Unique {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Unique> for String {
    fn from(unique: Unique) -> Self {
        unique.to_string()
    }
}

impl TryFrom<String> for Unique {
    type Error = InvalidUnique;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for Unique {
    type Err = InvalidUnique;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let value = hex.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        value.map(Self).ok_or_else(|| InvalidUnique(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_with_leading_zeros() {
        let unique = Unique(0xab);
        assert_eq!(unique.to_string(), format!("{}ab", "0".repeat(30)));
        assert_eq!(unique.to_string().parse(), Ok(unique));
    }

    #[test]
    fn other_texts_are_refused() {
        let upper = "A".repeat(32);
        let sign = format!("+{}", "1".repeat(31));
        for text in ["", "1", "..", &upper, &sign, &"0".repeat(33)] {
            assert!(text.parse::<Unique>().is_err(), "{text}");
        }
    }

    #[test]
    fn two_are_different() {
        assert_ne!(Unique::new().unwrap(), Unique::new().unwrap());
    }
}
