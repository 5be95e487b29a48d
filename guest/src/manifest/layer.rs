//! One layer of a manifest.

use serde::Deserialize;

use super::table;
use crate::canonical::{Json, LARGEST};
use crate::digest::Digest;
use crate::verity::Parameters;

/// A layer, with all that determines what can be read from its device.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "LayerFields")]
pub struct Layer(LayerFields);

/// The members of a [`Layer`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerFields {
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Length of the layer's file in bytes: the EROFS image, the superblock of dm-verity and the hash tree.
    pub size: u64,
    /// What the device is made with.
    pub verity: Parameters,
}

/// Members that contradict each other.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidLayer {
    /// The hash tree ends elsewhere.
    #[error("a layer with these verity parameters has {expected} bytes, not {size}")]
    Size {
        /// What the manifest says.
        size: u64,
        /// What follows from the parameters.
        expected: u64,
    },
    /// More than a manifest can say.
    #[error("a layer of {size} bytes is larger than 2^53 - 1 bytes")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
    },
}

impl Layer {
    /// A layer of these members.
    ///
    /// # Errors
    /// If the size is not the one that the parameters give, or is larger than a manifest can say.
    pub fn new(fields: LayerFields) -> Result<Self, InvalidLayer> {
        let LayerFields { size, verity, .. } = &fields;
        let expected = table::bytes(verity);
        if *size != expected {
            return Err(InvalidLayer::Size { size: *size, expected });
        }
        match *size <= LARGEST {
            true => Ok(Self(fields)),
            false => Err(InvalidLayer::TooLarge { size: *size }),
        }
    }

    /// The layer of this tar with these parameters; its size follows from them.
    ///
    /// # Errors
    /// [`InvalidLayer::TooLarge`].
    pub fn of(diff_id: Digest, verity: Parameters) -> Result<Self, InvalidLayer> {
        Self::new(LayerFields { diff_id, size: table::bytes(&verity), verity })
    }

    /// The members.
    #[must_use]
    pub const fn fields(&self) -> &LayerFields {
        &self.0
    }

    pub(super) fn json(&self) -> Json {
        let LayerFields { diff_id, size, verity } = &self.0;
        Json::object([
            ("diff_id", Some(Json::text(diff_id))),
            ("size", Some(Json::Number(*size))),
            ("verity", Some(table::json(verity))),
        ])
    }
}

impl TryFrom<LayerFields> for Layer {
    type Error = InvalidLayer;

    fn try_from(fields: LayerFields) -> Result<Self, Self::Error> {
        Self::new(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn a_size_that_does_not_follow_is_refused() {
        let fields = fixtures::layer(5, 1).fields().clone();
        let expected = fields.size;
        for size in [0, expected - 1, expected + 4096, u64::MAX] {
            let refused = Layer::new(LayerFields { size, ..fields.clone() });
            assert_eq!(refused, Err(InvalidLayer::Size { size, expected }));
        }
    }
}
