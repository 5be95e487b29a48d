//! The list of an image's layers, and the hash that stands for it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Layer, Merged};
use crate::canonical::{Canonical, Json};
use crate::digest::{Digest, InvalidDigest};
use crate::word::Word;

/// As many lowers as overlayfs takes (`OVL_MAX_STACK` in Linux).
pub const MOST_LAYERS: usize = 500;

/// Comes before the text that is hashed, so that the hash of something else never is an image hash.
const HASH_DOMAIN: &[u8] = b"nexuserofs layers manifest v1\0";

/// What an image's root file system is made of. It is a function of the image and the layout version alone:
/// everyone who has the image computes the same.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Fields")]
pub struct Manifest(Fields);

/// The members of a [`Manifest`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fields {
    /// How tars become EROFS files.
    pub layout_version: LayoutVersion,
    /// Which image; none if only its layers are known.
    #[serde(default)]
    pub image: Option<Image>,
    /// What it runs on.
    pub platform: Platform,
    /// The layers, oldest first; 1 to [`MOST_LAYERS`]. The same layer may be there more than once.
    pub layers: Vec<Layer>,
    /// All layers as one device, for guests that take the image in this form. It is a part of what is hashed, so an image
    /// has one hash with it and another without.
    #[serde(default)]
    pub merged: Option<Merged>,
}

/// Version of the image layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "u64", try_from = "u64")]
pub enum LayoutVersion {
    /// Image layout v1.
    V1,
}

/// The documents of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Digest of the image manifest: the one of this platform, not of an index.
    pub manifest: Digest,
    /// Digest of the image's configuration.
    pub config: Digest,
}

/// What an image runs on, in the words of the OCI image specification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Platform {
    /// Operating system.
    pub os: Word,
    /// Processor.
    pub architecture: Word,
    /// Variant of the processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<Word>,
}

/// One number for a whole root file system, its order and its count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageHash(Digest);

/// Members that make no manifest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidManifest {
    /// A layout that we do not know.
    #[error("image layout version {version} is not known here: expected 1")]
    Layout {
        /// The version.
        version: u64,
    },
    /// None, or more than can be mounted.
    #[error("a manifest lists 1 to {MOST_LAYERS} layers, not {count}")]
    Count {
        /// How many there are.
        count: usize,
    },
    /// The merged image is of other layers.
    #[error(
        "the merged image cannot be of these layers: it is of several, and larger than all of them together"
    )]
    Merged,
}

impl Manifest {
    /// A manifest of these members.
    ///
    /// # Errors
    /// [`InvalidManifest::Count`] and [`InvalidManifest::Merged`].
    pub fn new(fields: Fields) -> Result<Self, InvalidManifest> {
        let Fields { layers, merged, .. } = &fields;
        if !(1..=MOST_LAYERS).contains(&layers.len()) {
            return Err(InvalidManifest::Count { count: layers.len() });
        }
        match merged.as_ref().is_none_or(|merged| merged.holds(layers)) {
            true => Ok(Self(fields)),
            false => Err(InvalidManifest::Merged),
        }
    }

    /// The members.
    #[must_use]
    pub const fn fields(&self) -> &Fields {
        &self.0
    }

    /// The layers, oldest first.
    #[must_use]
    pub fn layers(&self) -> &[Layer] {
        &self.0.layers
    }

    /// All layers as one device, if the manifest says how that is verified.
    #[must_use]
    pub const fn merged(&self) -> Option<&Merged> {
        self.0.merged.as_ref()
    }

    /// The hash that stands for this manifest.
    #[must_use]
    pub fn image_hash(&self) -> ImageHash {
        ImageHash(Digest::of_parts(&[HASH_DOMAIN, self.to_canonical().as_bytes()]))
    }
}

impl Canonical for Manifest {
    /// A layer takes less than 2 KiB, even with the longest salt.
    const LIMIT: usize = 1 << 20;

    fn json(&self) -> Json {
        let Fields { layout_version, image, platform, layers, merged } = &self.0;
        Json::object([
            ("image", image.as_ref().map(Image::json)),
            ("layers", Some(Json::Array(layers.iter().map(Layer::json).collect()))),
            ("layout_version", Some(Json::Number((*layout_version).into()))),
            ("merged", merged.as_ref().map(Merged::json)),
            ("platform", Some(platform.json())),
        ])
    }
}

impl Image {
    fn json(&self) -> Json {
        Json::object([
            ("config", Some(Json::text(self.config))),
            ("manifest", Some(Json::text(self.manifest))),
        ])
    }
}

impl Platform {
    fn json(&self) -> Json {
        Json::object([
            ("architecture", Some(Json::text(&self.architecture))),
            ("os", Some(Json::text(&self.os))),
            ("variant", self.variant.as_ref().map(Json::text)),
        ])
    }
}

impl TryFrom<Fields> for Manifest {
    type Error = InvalidManifest;

    fn try_from(fields: Fields) -> Result<Self, Self::Error> {
        Self::new(fields)
    }
}

impl From<LayoutVersion> for u64 {
    fn from(version: LayoutVersion) -> Self {
        match version {
            LayoutVersion::V1 => 1,
        }
    }
}

impl TryFrom<u64> for LayoutVersion {
    type Error = InvalidManifest;

    fn try_from(version: u64) -> Result<Self, Self::Error> {
        match version {
            1 => Ok(Self::V1),
            version => Err(InvalidManifest::Layout { version }),
        }
    }
}

impl fmt::Display for ImageHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for ImageHash {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixtures;

    #[test]
    fn bytes_and_hash_are_the_golden_ones() {
        let manifest = fixtures::manifest(2);
        assert_eq!(manifest.to_canonical(), include_str!("golden/manifest.json").trim_end());
        assert_eq!(manifest.image_hash().to_string(), include_str!("golden/image_hash").trim_end());
    }

    #[test]
    fn a_manifest_is_read_as_it_is_written() {
        for layers in [1, 2, MOST_LAYERS] {
            let manifest = fixtures::manifest(layers);
            let text = manifest.to_canonical();
            assert_eq!(Manifest::from_canonical(text.as_bytes()).unwrap(), manifest);
        }
    }

    #[test]
    fn a_merged_image_is_hashed_and_has_to_be_of_the_layers() {
        let plain = fixtures::manifest(2);
        let merged = fixtures::merged_manifest(2);
        let text = merged.to_canonical();
        assert_eq!(text, include_str!("golden/merged.json").trim_end());
        assert_eq!(merged.image_hash().to_string(), include_str!("golden/merged_image_hash").trim_end());
        assert_ne!(merged.image_hash(), plain.image_hash());
        assert_eq!(Manifest::from_canonical(text.as_bytes()).unwrap(), merged);
        let single = Fields { layers: plain.layers()[..1].to_vec(), ..merged.fields().clone() };
        assert_eq!(Manifest::new(single), Err(InvalidManifest::Merged));
        for other in ["\"merge_version\":2", "\"merge_version\":1,\"more\":1"] {
            let other = text.replace("\"merge_version\":1", other);
            assert!(Manifest::from_canonical(other.as_bytes()).is_err());
        }
    }

    #[test]
    fn the_same_in_another_text_is_refused() {
        let text = fixtures::manifest(1).to_canonical();
        for other in [
            format!("{text}\n"),
            format!(" {text}"),
            text.replace("\"os\":", "\"os\": "),
            text.replace("amd64", "amd\\u0036\\u0034"),
            text.replace(
                "{\"architecture\":\"amd64\",\"os\":\"linux\"}",
                "{\"os\":\"linux\",\"architecture\":\"amd64\"}",
            ),
            text.replace("\"layout_version\":1", "\"layout_version\":1.0"),
            text.replace("\"layout_version\":1", "\"layout_version\":1,\"layout_version\":1"),
            text.replace("\"layout_version\":1", "\"layout_version\":1,\"more\":1"),
            text.replace("\"layout_version\":1", "\"layout_version\":2"),
            text.replace("\"layout_version\":1,", ""),
            format!("{text}{text}"),
            format!("{text}{}", " ".repeat(1 << 20)),
        ] {
            assert_ne!(other, text);
            assert!(
                Manifest::from_canonical(other.as_bytes()).is_err(),
                "{}",
                &other[..200.min(other.len())]
            );
        }
    }

    #[test]
    fn no_layers_and_more_than_can_be_mounted_are_refused() {
        let mut fields = fixtures::manifest(1).fields().clone();
        let layer = fields.layers[0].clone();
        fields.layers.clear();
        assert_eq!(Manifest::new(fields.clone()), Err(InvalidManifest::Count { count: 0 }));
        fields.layers = vec![layer; MOST_LAYERS + 1];
        assert_eq!(Manifest::new(fields), Err(InvalidManifest::Count { count: 501 }));
    }

    proptest! {
        #[test]
        fn order_and_count_of_layers_are_in_the_hash(count in 2_usize..8, first in 0_usize..8, second in 0_usize..8) {
            let manifest = fixtures::manifest(count);
            let (first, second) = (first % count, second % count);
            let mut swapped = manifest.fields().clone();
            swapped.layers.swap(first, second);
            let swapped = Manifest::new(swapped).unwrap();
            prop_assert_eq!(swapped.image_hash() == manifest.image_hash(), first == second);
            let mut shorter = manifest.fields().clone();
            shorter.layers.remove(first);
            prop_assert_ne!(Manifest::new(shorter).unwrap().image_hash(), manifest.image_hash());
        }

        #[test]
        fn whatever_bytes_come_nothing_else_than_the_canonical_text_is_read(
            at in 0_usize..4096, byte in any::<u8>(),
        ) {
            let mut bytes = fixtures::manifest(2).to_canonical().into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(read) = Manifest::from_canonical(&bytes) {
                prop_assert_eq!(read.to_canonical().into_bytes(), bytes);
            }
        }
    }
}
