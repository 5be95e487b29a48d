//! The name of a layer on this host.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Recipe;
use crate::image::digest::Digest;
use crate::store::unique::Unique;

/// Version of the image layout that new layers are written in (`docs/image-layout-v1.md`).
pub const LAYOUT_VERSION: u32 = 1;

/// Hex digits in a key. With `v1-` that makes 35 characters; virtual machine runtimes name a GPT
/// partition after the layer's directory, and such a name holds 36.
const DIGITS: usize = 32;

/// Starts the key of a layer that was made of a tar in the project's own layout.
const NATIVE: &str = "v";
/// Starts the key of a layer that mkfs.erofs made of a tar.
const MKFS: &str = "m";
/// Starts the key of a layer that is a tar with an index.
const TAR_INDEX: &str = "t";
/// Starts the key of a layer that was an EROFS image already.
const EROFS: &str = "e";
/// Starts the key of a layer that was made of what a snapshot wrote.
const WRITTEN: &str = "w";

const STARTS: [&str; 5] = [NATIVE, MKFS, TAR_INDEX, EROFS, WRITTEN];

/// A layer's directory name: how it was made, the version of that, and the first half of the diffID or of
/// the digest that stands for it, or the random name that a written layer has instead.
///
/// Half a digest can be made to collide by whoever makes both layers, so a key alone proves
/// nothing: a [`LayerRecord`](super::LayerRecord) is looked up by key and compared by diffID.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct LayerKey(String);

/// A text that is not a layer key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a layer key: expected v, m, t, e or w, a version, - and 32 lower-case hex digits")]
pub struct InvalidLayerKey(String);

impl LayerKey {
    /// The key of the layer with this uncompressed digest in this image layout.
    #[must_use]
    pub fn new(layout: u32, diff_id: &Digest) -> Self {
        Self::of_digest(NATIVE, layout, diff_id)
    }

    /// The key of the layer that `recipe` in this version makes of the content with this digest.
    #[must_use]
    pub fn made(recipe: &Recipe, version: u32, diff_id: &Digest) -> Self {
        let start = match recipe {
            Recipe::Native => NATIVE,
            Recipe::Mkfs(_) => MKFS,
            Recipe::TarIndex(_) => TAR_INDEX,
            Recipe::Erofs => EROFS,
        };
        Self::of_digest(start, version, &recipe.identity(diff_id))
    }

    fn of_digest(start: &str, version: u32, digest: &Digest) -> Self {
        let digits: String = digest.hex().chars().take(DIGITS).collect();
        Self(format!("{start}{version}-{digits}"))
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
    let rest = STARTS.iter().find_map(|start| text.strip_prefix(start));
    let Some((layout, digits)) = rest.and_then(|rest| rest.split_once('-')) else { return false };
    let canonical = layout.parse::<u32>().is_ok_and(|version| version.to_string() == layout);
    canonical && digits.len() == DIGITS && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::MkfsBuild;

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
    fn every_recipe_has_keys_of_its_own() {
        let (digest, build) = (Digest::of(b"abc"), MkfsBuild { version: "1.9.4".into(), options: vec![] });
        let recipes = [Recipe::Native, Recipe::Mkfs(build.clone()), Recipe::TarIndex(build), Recipe::Erofs];
        let keys = recipes.map(|recipe| LayerKey::made(&recipe, recipe.version(), &digest));
        assert_eq!(keys[0], LayerKey::new(1, &digest));
        assert_eq!(keys[3].as_str(), "e1-ba7816bf8f01cfea414140de5dae2223");
        assert!(keys[1].as_str().starts_with("m1-") && keys[2].as_str().starts_with("t1-"));
        assert!(keys[1].as_str().trim_start_matches("m1-") != keys[0].as_str().trim_start_matches("v1-"));
        for key in keys {
            assert_eq!(key.as_str().parse(), Ok(key));
        }
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
