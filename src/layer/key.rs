//! The name of a layer on this host.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::image::digest::Digest;

/// Version of the image layout that new layers are written in (`docs/image-layout-v1.md`).
pub const LAYOUT_VERSION: u32 = 1;

/// Digits of the diffID in a key. With `v1-` that makes 35 characters; virtual machine runtimes
/// name a GPT partition after the layer's directory, and such a name holds 36.
const DIGITS: usize = 32;

/// A layer's directory name: the layout version and the first half of the diffID.
///
/// Half a digest can be made to collide by whoever makes both layers, so a key alone proves
/// nothing: a [`LayerRecord`](super::LayerRecord) is looked up by key and compared by diffID.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct LayerKey(String);

/// A text that is not a layer key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a layer key: expected v, a version, - and 32 lower-case hex digits")]
pub struct InvalidLayerKey(String);

impl LayerKey {
    /// The key of the layer with this uncompressed digest in this layout.
    #[must_use]
    pub fn new(layout: u32, diff_id: &Digest) -> Self {
        let digits: String = diff_id.hex().chars().take(DIGITS).collect();
        Self(format!("v{layout}-{digits}"))
    }

    /// The key as text, fit for a directory name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LayerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LayerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<LayerKey> for String {
    fn from(key: LayerKey) -> Self {
        key.0
    }
}

impl TryFrom<String> for LayerKey {
    type Error = InvalidLayerKey;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for LayerKey {
    type Err = InvalidLayerKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_key(text) { Ok(Self(text.to_owned())) } else { Err(InvalidLayerKey(text.to_owned())) }
    }
}

fn is_key(text: &str) -> bool {
    let Some((layout, digits)) = text.strip_prefix('v').and_then(|rest| rest.split_once('-')) else {
        return false;
    };
    let canonical = layout.parse::<u32>().is_ok_and(|version| version.to_string() == layout);
    canonical && digits.len() == DIGITS && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_short_enough_for_a_partition_name_and_round_trips() {
        let key = LayerKey::new(1, &Digest::of(b"abc"));
        assert_eq!(key.as_str(), "v1-ba7816bf8f01cfea414140de5dae2223");
        assert_eq!(key.as_str().len(), 35);
        assert_eq!(key.as_str().parse(), Ok(key));
    }

    #[test]
    fn other_texts_are_refused() {
        let digits = "0".repeat(32);
        for text in [
            "",
            "v1-",
            "v1-xyz",
            &format!("v-{digits}"),
            &format!("v01-{digits}"),
            &format!("v1-{digits}0"),
            &format!("v+1-{digits}"),
            &format!("../v1-{digits}"),
        ] {
            assert!(text.parse::<LayerKey>().is_err(), "{text}");
        }
    }
}
