//! What is known about a chain.

use serde::{Deserialize, Serialize};

use super::ChainKey;
use crate::layer::LayerKey;
use crate::layer::verity::Verity;

/// What is known about a chain: the text of `chain.json` beside its image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainRecord {
    /// Its directory name.
    pub key: ChainKey,
    /// Its layers, the oldest first, which is the order of the image's device table.
    pub layers: Vec<ChainLayer>,
    /// What became of them.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// A layer as a chain has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainLayer {
    /// Its directory name.
    pub key: LayerKey,
    /// Size of its file in bytes.
    pub bytes: u64,
}

/// Whether layers could be merged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Outcome {
    /// They were.
    Merged {
        /// Size of `fsmeta.erofs` in bytes.
        image_bytes: u64,
        /// The dm-verity tree in `merged.verity`, which is over the image and behind it the files of all
        /// layers; None if a layer has no tree of its own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        verity: Option<Verity>,
    },
    /// They cannot be, now and later.
    Unmergeable {
        /// Why not, for people.
        unmergeable: String,
    },
}

impl ChainRecord {
    /// The record of these layers, the oldest first.
    #[must_use]
    pub fn new(layers: Vec<ChainLayer>, outcome: Outcome) -> Self {
        Self { key: ChainKey::of(&layers), layers, outcome }
    }

    /// Whether the key is the one that the layers give.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        self.key == ChainKey::of(&self.layers)
    }

    /// Whether there is an image.
    #[must_use]
    pub const fn is_merged(&self) -> bool {
        matches!(self.outcome, Outcome::Merged { .. })
    }

    /// The hash tree over image and layers, if there is one.
    #[must_use]
    pub const fn verity(&self) -> Option<Verity> {
        match self.outcome {
            Outcome::Merged { verity, .. } => verity,
            Outcome::Unmergeable { .. } => None,
        }
    }

    /// Whether this layer is one of the chain's.
    #[must_use]
    pub fn has(&self, layer: &LayerKey) -> bool {
        self.layers.iter().any(|own| own.key == *layer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::digest::Digest;

    #[test]
    fn a_record_round_trips_and_knows_its_key() {
        let layer = ChainLayer { key: LayerKey::new(1, &Digest::of(b"a")), bytes: 4096 };
        for (outcome, is_merged) in [
            (Outcome::Merged { image_bytes: 8192, verity: None }, true),
            (Outcome::Unmergeable { unmergeable: "compressed".to_owned() }, false),
        ] {
            let record = ChainRecord::new(vec![layer.clone(), layer.clone()], outcome);
            let text = serde_json::to_string(&record).unwrap();
            assert_eq!(serde_json::from_str::<ChainRecord>(&text).unwrap(), record);
            assert!(record.is_consistent() && record.has(&layer.key));
            assert_eq!(record.is_merged(), is_merged);
            let mut other = record;
            other.layers.pop();
            assert!(!other.is_consistent());
        }
    }
}
