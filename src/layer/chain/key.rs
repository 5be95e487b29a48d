//! The name of a chain on this host.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ChainLayer;
use crate::image::digest::Digest;
use crate::image::merged;

/// Hex digits in a key, as many as a layer's has.
const DIGITS: usize = 32;

/// A chain's directory name: `c`, the version of the merging, `-`, and the first half of a digest of the
/// layers.
///
/// The digest is SHA-256 of a line for each layer, from the oldest on: its key, a blank and the size of its
/// file in decimal. A layer that was made again with a longer file thus makes another chain.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ChainKey(String);

/// A text that is not a chain key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a chain key: expected c, a version, - and 32 lower-case hex digits")]
pub struct InvalidChainKey(String);

impl ChainKey {
    /// The key of these layers, the oldest first.
    #[must_use]
    pub fn of(layers: &[ChainLayer]) -> Self {
        let line = |layer: &ChainLayer| format!("{} {}\n", layer.key, layer.bytes);
        let digest = Digest::of(layers.iter().map(line).collect::<String>().as_bytes());
        let digits: String = digest.hex().chars().take(DIGITS).collect();
        Self(format!("c{}-{digits}", merged::VERSION))
    }

    /// The key as text, fit for a directory name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<ChainKey> for String {
    fn from(key: ChainKey) -> Self {
        key.0
    }
}

impl TryFrom<String> for ChainKey {
    type Error = InvalidChainKey;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for ChainKey {
    type Err = InvalidChainKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_key(text) { Ok(Self(text.to_owned())) } else { Err(InvalidChainKey(text.to_owned())) }
    }
}

fn is_key(text: &str) -> bool {
    let Some((version, digits)) = text.strip_prefix('c').and_then(|rest| rest.split_once('-')) else {
        return false;
    };
    let canonical = version.parse::<u32>().is_ok_and(|number| number.to_string() == version);
    canonical && digits.len() == DIGITS && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::LayerKey;

    #[test]
    fn order_and_sizes_of_layers_make_the_key() {
        let layer = |text: &[u8], bytes| ChainLayer { key: LayerKey::new(1, &Digest::of(text)), bytes };
        let key = |layers: &[ChainLayer]| ChainKey::of(layers);
        let (a, b) = (layer(b"a", 4096), layer(b"b", 8192));
        let both = key(&[a.clone(), b.clone()]);
        // printf 'v1-ca978112ca1bbdcafac231b39a23dc4d 4096\nv1-3e23e8160039594a33894f6564e1b134 8192\n' | sha256sum
        assert_eq!(both.as_str(), "c1-cb50e5677b6d1707bb8b8d6eeb2f997b");
        assert_eq!(both.as_str().parse(), Ok(both.clone()));
        assert_ne!(key(&[b.clone(), a.clone()]), both);
        assert_ne!(key(&[a, layer(b"b", 12_288)]), both);
    }

    #[test]
    fn other_texts_are_refused() {
        let digits = "0".repeat(32);
        for text in
            ["", "c1-", "c1-xyz", &format!("v1-{digits}"), &format!("c01-{digits}"), &format!("c1-{digits}0")]
        {
            assert!(text.parse::<ChainKey>().is_err(), "{text}");
        }
    }
}
