//! What a signer says about a manifest.

use serde::{Deserialize, Serialize};

use super::{ImageHash, KeyId};
use crate::canonical::{Canonical, Json, LARGEST};
use crate::word::Word;

/// Comes before the text that is signed, so that a signature of something else never is one of a statement.
const SIGNATURE_DOMAIN: &[u8] = b"nexuserofs layers statement v1\0";

/// What a signer says: this is the image of this name in this version, until then.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// Which manifest.
    pub image_hash: ImageHash,
    /// Which key signs.
    pub key_id: KeyId,
    /// Grows with every release of the image, so that policies can refuse older ones.
    #[serde(deserialize_with = "exact")]
    pub version: u64,
    /// What the image is called, so that policies can refuse others of the same signer.
    #[serde(default)]
    pub name: Option<Word>,
    /// From when on it is not to be used any more.
    #[serde(default)]
    pub expires: Option<UnixTime>,
}

/// Seconds since 1970-01-01 00:00 UTC, less than 2^53.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixTime(#[serde(deserialize_with = "exact")] pub u64);

impl Statement {
    /// What is signed.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        [SIGNATURE_DOMAIN, self.to_canonical().as_bytes()].concat()
    }
}

impl Canonical for Statement {
    const LIMIT: usize = 4096;

    fn json(&self) -> Json {
        Json::object([
            ("expires", self.expires.map(|UnixTime(seconds)| Json::Number(seconds))),
            ("image_hash", Some(Json::text(self.image_hash))),
            ("key_id", Some(Json::text(self.key_id))),
            ("name", self.name.as_ref().map(Json::text)),
            ("version", Some(Json::Number(self.version))),
        ])
    }
}

fn exact<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number = u64::deserialize(deserializer)?;
    match number <= LARGEST {
        true => Ok(number),
        false => Err(serde::de::Error::custom(format!("{number} is more than 2^53 - 1"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn a_statement_is_read_as_it_is_written() {
        let statement = fixtures::statement(&fixtures::manifest(1));
        let bare = Statement { name: None, expires: None, ..statement.clone() };
        for statement in [statement, bare] {
            let text = statement.to_canonical();
            assert_eq!(Statement::from_canonical(text.as_bytes()).unwrap(), statement);
        }
    }

    #[test]
    fn numbers_that_readers_of_json_round_are_refused() {
        let text = fixtures::statement(&fixtures::manifest(1)).to_canonical();
        let version = |number: u64| text.replace("\"version\":7", &format!("\"version\":{number}"));
        assert!(Statement::from_canonical(version(LARGEST).as_bytes()).is_ok());
        assert!(Statement::from_canonical(version(LARGEST + 1).as_bytes()).is_err());
    }
}
