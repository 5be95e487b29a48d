//! One layer of a manifest.

use serde::Deserialize;

use crate::canonical::{Json, LARGEST};
use crate::digest::Digest;
use crate::verity::{Fields as VerityFields, Parameters};

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
        let expected = file_bytes(verity);
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
        Self::new(LayerFields { diff_id, size: file_bytes(&verity), verity })
    }

    /// The members.
    #[must_use]
    pub const fn fields(&self) -> &LayerFields {
        &self.0
    }

    pub(super) fn json(&self) -> Json {
        let LayerFields { diff_id, size, verity } = &self.0;
        let VerityFields {
            root_digest,
            salt,
            data_block_size,
            hash_block_size,
            data_blocks,
            hash_start_block,
        } = verity.fields();
        let parameters = Json::object([
            ("data_block_size", Some(Json::Number(data_block_size.bytes().into()))),
            ("data_blocks", Some(Json::Number(data_blocks.get()))),
            ("hash_block_size", Some(Json::Number(hash_block_size.bytes().into()))),
            ("hash_start_block", Some(Json::Number(*hash_start_block))),
            ("root_digest", Some(Json::text(root_digest))),
            ("salt", Some(Json::text(salt.hex()))),
        ]);
        Json::object([
            ("diff_id", Some(Json::text(diff_id))),
            ("size", Some(Json::Number(*size))),
            ("verity", Some(parameters)),
        ])
    }
}

impl TryFrom<LayerFields> for Layer {
    type Error = InvalidLayer;

    fn try_from(fields: LayerFields) -> Result<Self, Self::Error> {
        Self::new(fields)
    }
}

/// Where the hash tree of these parameters ends. The kernel lays it out level by level, the root's first
/// (`verity_ctr` in Linux); each level has a hash for each block of the one below. A size that no number
/// holds comes out as the largest, which no layer has.
fn file_bytes(verity: &Parameters) -> u64 {
    let fields = verity.fields();
    let block = u64::from(fields.hash_block_size.bytes());
    let digest = (fields.root_digest.as_bytes().len() as u64).next_power_of_two();
    let levels = std::iter::successors(Some(fields.data_blocks.get()), |blocks| {
        (*blocks > 1).then(|| blocks.div_ceil(block / digest))
    });
    let tree = levels.skip(1).fold(0_u64, u64::saturating_add);
    fields.hash_start_block.saturating_add(tree).saturating_mul(block)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn sizes_of_trees_are_those_that_veritysetup_writes() {
        // Measured, with the superblock's block: `veritysetup format` on so many blocks of 4096 bytes.
        for (blocks, tree) in
            [(1, 4096), (2, 8192), (128, 8192), (129, 16384), (16384, 532_480), (16385, 544_768)]
        {
            assert_eq!(file_bytes(&fixtures::verity(blocks, 7)), blocks * 4096 + tree, "{blocks}");
        }
    }

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
