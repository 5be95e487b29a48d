//! The merged image of a manifest: all layers as one device.

use serde::Deserialize;

use super::{Layer, table};
use crate::canonical::{Json, LARGEST};
use crate::verity::Parameters;

/// The whole image on one device: merged metadata, behind it the files of all layers, the oldest first, and
/// behind these one hash tree over all of it. A function of the layers and of how they are merged.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "MergedFields")]
pub struct Merged(MergedFields);

/// The members of a [`Merged`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MergedFields {
    /// How layers are merged.
    pub merge_version: MergeVersion,
    /// Length of the device in bytes, with superblock and hash tree.
    pub size: u64,
    /// What the device is made with.
    pub verity: Parameters,
}

/// Version of the merging.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u64")]
pub enum MergeVersion {
    /// Version 1 of merged images.
    V1,
}

/// Members that contradict each other.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidMerged {
    /// A merging that we do not know.
    #[error("merged images of version {version} are not known here: expected 1")]
    Version {
        /// The version.
        version: u64,
    },
    /// The hash tree ends elsewhere, or where no manifest can say.
    #[error(
        "a merged image with these verity parameters has {expected} bytes, not {size}, and at most 2^53 - 1"
    )]
    Size {
        /// What the manifest says.
        size: u64,
        /// What follows from the parameters.
        expected: u64,
    },
}

impl Merged {
    /// A merged image of these members.
    ///
    /// # Errors
    /// If the size is not the one that the parameters give, or is larger than a manifest can say.
    pub fn new(fields: MergedFields) -> Result<Self, InvalidMerged> {
        let MergedFields { size, verity, .. } = &fields;
        let expected = table::bytes(verity);
        match *size == expected && *size <= LARGEST {
            true => Ok(Self(fields)),
            false => Err(InvalidMerged::Size { size: *size, expected }),
        }
    }

    /// The merged image with these parameters; its size follows from them.
    ///
    /// # Errors
    /// If it is larger than a manifest can say.
    pub fn of(verity: Parameters) -> Result<Self, InvalidMerged> {
        let size = table::bytes(&verity);
        Self::new(MergedFields { merge_version: MergeVersion::V1, size, verity })
    }

    /// The members.
    #[must_use]
    pub const fn fields(&self) -> &MergedFields {
        &self.0
    }

    /// Whether these layers can be in it: there are several, and their files take less than the data that is
    /// hashed, which has metadata too.
    pub(super) fn holds(&self, layers: &[Layer]) -> bool {
        let files = layers.iter().map(|layer| layer.fields().size).fold(0_u64, u64::saturating_add);
        layers.len() > 1 && files < self.0.verity.data_bytes()
    }

    pub(super) fn json(&self) -> Json {
        let MergedFields { merge_version, size, verity } = &self.0;
        Json::object([
            ("merge_version", Some(Json::Number((*merge_version).into()))),
            ("size", Some(Json::Number(*size))),
            ("verity", Some(table::json(verity))),
        ])
    }
}

impl TryFrom<MergedFields> for Merged {
    type Error = InvalidMerged;

    fn try_from(fields: MergedFields) -> Result<Self, Self::Error> {
        Self::new(fields)
    }
}

impl From<MergeVersion> for u64 {
    fn from(version: MergeVersion) -> Self {
        match version {
            MergeVersion::V1 => 1,
        }
    }
}

impl TryFrom<u64> for MergeVersion {
    type Error = InvalidMerged;

    fn try_from(version: u64) -> Result<Self, Self::Error> {
        match version {
            1 => Ok(Self::V1),
            version => Err(InvalidMerged::Version { version }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn a_size_that_does_not_follow_is_refused() {
        let merged = Merged::of(fixtures::verity(200, 1)).unwrap();
        let expected = merged.fields().size;
        for size in [0, expected - 1, expected + 4096, u64::MAX] {
            let refused = Merged::new(MergedFields { size, ..merged.fields().clone() });
            assert_eq!(refused, Err(InvalidMerged::Size { size, expected }));
        }
    }

    #[test]
    fn layers_that_cannot_be_in_it_are_told_from_those_that_can() {
        let layers = [fixtures::layer(3, 1), fixtures::layer(6, 2)];
        let blocks = layers.iter().map(|layer| layer.fields().size / 4096).sum();
        let merged = |blocks| Merged::of(fixtures::verity(blocks, 1)).unwrap();
        assert!(merged(blocks + 1).holds(&layers));
        assert!(!merged(blocks).holds(&layers));
        assert!(!merged(blocks).holds(&layers[..1]));
    }
}
