//! The name of a mounted layer.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::store::unique::Unique;

/// Characters of a name. The kernel takes a page of mount options, of which containerd leaves 512
/// bytes unused: with its colon a layer takes 5, so that 500 layers, the most that overlay joins, fit.
const LENGTH: usize = 4;

/// What names are made of: no vowels, so that no name is a word.
const ALPHABET: [u8; 32] = *b"0123456789bcdfghjklmnpqrstvwxyz_";

/// The name of the directory on which a layer is mounted: four characters, a million names.
///
/// A name is given to one layer and is part of mount plans, so it stays as long as a plan has it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct MountName(String);

/// A text that names no mounted layer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not the name of a mounted layer: expected four of 0-9, the consonants and _")]
pub struct InvalidMountName(String);

impl MountName {
    /// A name that is most likely free.
    pub(super) fn random() -> std::io::Result<Self> {
        let bits = Unique::new()?.to_bytes();
        let characters = bits.iter().take(LENGTH).map(|byte| ALPHABET[usize::from(byte % 32)]);
        Ok(Self(characters.map(char::from).collect()))
    }

    /// The name, fit for a directory and for mount options.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for MountName {
    type Err = InvalidMountName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = text.len() == LENGTH && text.bytes().all(|byte| ALPHABET.contains(&byte));
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidMountName(text.to_owned())) }
    }
}

impl From<MountName> for String {
    fn from(name: MountName) -> Self {
        name.0
    }
}

impl TryFrom<String> for MountName {
    type Error = InvalidMountName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_name_is_a_name() {
        for _ in 0..100 {
            let name = MountName::random().unwrap();
            assert_eq!(name.as_str().parse(), Ok(name));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "abc", "bcdfg", "empty", "../b", "BCDF", "bc:d", "bc d"] {
            assert!(text.parse::<MountName>().is_err(), "{text}");
        }
    }
}
