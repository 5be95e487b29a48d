//! The name of a layer on this host.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::image::digest::Digest;
use crate::store::unique::Unique;

/// Version of the image layout that new layers are written in (`docs/image-layout-v1.md`).
pub const LAYOUT_VERSION: u32 = 1;

/// Hex digits in a key. With `v1-` that makes 35 characters; virtual machine runtimes name a GPT
/// partition after the layer's directory, and such a name holds 36.
const DIGITS: usize = 32;

/// Starts the key of a layer that was made of a tar.
const FROM_TAR: &str = "v";
/// Starts the key of a layer that was made of what a snapshot wrote.
const WRITTEN: &str = "w";

/// A layer's directory name: where it is from, the layout version, and the first half of the tar's
/// diffID, or the random name that a written layer has instead.
///
/// Half a digest can be made to collide by whoever makes both layers, so a key alone proves
/// nothing: a [`LayerRecord`](super::LayerRecord) is looked up by key and compared by diffID.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct LayerKey(String);

/// A text that is not a layer key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a layer key: expected v or w, a version, - and 32 lower-case hex digits")]
pub struct InvalidLayerKey(String);

impl LayerKey {
    /// The key of the layer with this uncompressed digest in this layout.
    #[must_use]
    pub fn new(layout: u32, diff_id: &Digest) -> Self {
        let digits: String = diff_id.hex().chars().take(DIGITS).collect();
        Self(format!("{FROM_TAR}{layout}-{digits}"))
    }

    /// The key of the written layer with this name in this layout.
    #[must_use]
    pub fn written(layout: u32, unique: Unique) -> Self {
        Self(format!("{WRITTEN}{layout}-{unique}"))
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
    let rest = text.strip_prefix(FROM_TAR).or_else(|| text.strip_prefix(WRITTEN));
    let Some((layout, digits)) = rest.and_then(|rest| rest.split_once('-')) else { return false };
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
        let key = LayerKey::written(1, "000000000000000000000000000000ab".parse().unwrap());
        assert_eq!(key.as_str(), "w1-000000000000000000000000000000ab");
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
            &format!("vw1-{digits}"),
            &format!("x1-{digits}"),
            &format!("../v1-{digits}"),
        ] {
            assert!(text.parse::<LayerKey>().is_err(), "{text}");
        }
    }
}
