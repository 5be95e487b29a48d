//! The digest at the root of a hash tree.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::hex;

/// The root of a hash tree, with the algorithm of the whole tree. As a text it is `ALGORITHM:HEX`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum RootDigest {
    /// SHA-256, as in all layers of image layout v1.
    Sha256([u8; 32]),
    /// SHA-512.
    Sha512([u8; 64]),
}

/// A text that is not a root digest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is not a root digest: expected sha256: and 64, or sha512: and 128 lower-case hex digits")]
pub struct InvalidRootDigest {
    text: String,
}

impl RootDigest {
    /// The digest of this algorithm, by the name that the kernel has for it, and of these hex digits.
    ///
    /// # Errors
    /// For another algorithm than sha256 and sha512, and for digits that are not as many as its digests have.
    pub fn from_parts(algorithm: &str, digits: &str) -> Result<Self, InvalidRootDigest> {
        parse(algorithm, digits).ok_or_else(|| InvalidRootDigest { text: format!("{algorithm}:{digits}") })
    }

    /// The kernel's name of the algorithm.
    #[must_use]
    pub const fn algorithm(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "sha256",
            Self::Sha512(_) => "sha512",
        }
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Sha256(bytes) => bytes,
            Self::Sha512(bytes) => bytes,
        }
    }

    /// The hex digits, without the algorithm.
    #[must_use]
    pub fn hex(&self) -> String {
        hex::encode(self.as_bytes())
    }
}

fn parse(algorithm: &str, digits: &str) -> Option<RootDigest> {
    let bytes = hex::decode(digits)?;
    match algorithm {
        "sha256" => bytes.try_into().ok().map(RootDigest::Sha256),
        "sha512" => bytes.try_into().ok().map(RootDigest::Sha512),
        _ => None,
    }
}

impl fmt::Display for RootDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), self.hex())
    }
}

impl fmt::Debug for RootDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<RootDigest> for String {
    fn from(digest: RootDigest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for RootDigest {
    type Error = InvalidRootDigest;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for RootDigest {
    type Err = InvalidRootDigest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digest = text.split_once(':').and_then(|(algorithm, digits)| parse(algorithm, digits));
        digest.ok_or_else(|| InvalidRootDigest { text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_as_it_is_written() {
        for digest in [RootDigest::Sha256([0xab; 32]), RootDigest::Sha512([7; 64])] {
            assert_eq!(digest.to_string().parse(), Ok(digest));
            assert_eq!(RootDigest::from_parts(digest.algorithm(), &digest.hex()), Ok(digest));
        }
    }

    #[test]
    fn a_digest_of_another_length_or_algorithm_is_refused() {
        let digits = "ab".repeat(32);
        for text in [
            digits.clone(),
            format!("sha512:{digits}"),
            format!("sha1:{digits}"),
            format!("sha256:{digits}00"),
            format!("sha256:{}", digits.to_uppercase()),
            format!("SHA256:{digits}"),
        ] {
            assert!(text.parse::<RootDigest>().is_err(), "{text}");
        }
    }
}
