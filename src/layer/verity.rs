//! The dm-verity tree in a layer's file, as it is recorded and as runtimes are told of it.
//!
//! A layer with a tree has a file `layer.erofs.dmverity` beside it: JSON with the keys `roothash` and
//! `hashoffset`, which containerd (`internal/dmverity`) and Kata (`gpt_disk.rs`) read, and the rest of the
//! table under the names that cryptsetup's superblock gives them, which both pass over.

use std::num::NonZeroU64;

use nexuserofs_guest::verity::{BlockSize, Fields, InvalidParameters, Parameters, RootDigest, Salt};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::image::digest::Digest;
use crate::image::verity::{ALGORITHM, Geometry, HASH_TYPE, Tree};

/// Whether the file of a layer gets a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HashTree {
    /// The file is the image and nothing else.
    #[default]
    Without,
    /// Superblock and tree follow the image.
    With,
}

impl HashTree {
    /// One, if it is wanted.
    #[must_use]
    pub const fn wanted(wanted: bool) -> Self {
        if wanted { Self::With } else { Self::Without }
    }
}

/// The tree in a layer's file. Image and tree are in the form of [`crate::image::verity`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Sidecar", try_from = "Sidecar")]
pub struct Verity {
    geometry: Geometry,
    root: Digest,
    uuid: Uuid,
}

/// The same as JSON has it.
#[derive(Debug, Serialize, Deserialize)]
struct Sidecar {
    /// 64 hex digits.
    roothash: String,
    /// Size of the image in bytes, which is where the superblock starts.
    hashoffset: u64,
    /// Hex digits.
    salt: String,
    uuid: Uuid,
    hash_algorithm: String,
    hash_type: u32,
    data_block_size: u32,
    hash_block_size: u32,
    data_blocks: u64,
}

/// A record of a tree that is not of the one form that layers have.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a dm-verity tree of image layout v1: {0}")]
pub struct InvalidVerity(String);

impl Verity {
    /// The record of a tree that is written with this UUID.
    #[must_use]
    pub fn new(tree: &Tree, uuid: [u8; 16]) -> Self {
        Self::of(tree.geometry(), tree.root(), uuid)
    }

    /// The record of a tree over so much, with this root hash and UUID.
    #[must_use]
    pub const fn of(geometry: Geometry, root: Digest, uuid: [u8; 16]) -> Self {
        Self { geometry, root, uuid: Uuid::from_bytes(uuid) }
    }

    /// The root hash.
    #[must_use]
    pub const fn root(&self) -> Digest {
        self.root
    }

    /// The UUID in the superblock.
    #[must_use]
    pub const fn uuid(&self) -> [u8; 16] {
        self.uuid.into_bytes()
    }

    /// What the tree is over, and where it lies.
    #[must_use]
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Size in bytes of the image in front of the tree.
    #[must_use]
    pub const fn image_size(&self) -> u64 {
        self.geometry.hash_offset()
    }

    /// What a dm-verity device is made with.
    ///
    /// # Errors
    /// For an image larger than any device.
    pub fn parameters(&self) -> Result<Parameters, InvalidParameters> {
        Parameters::new(Fields {
            root_digest: RootDigest::Sha256(*self.root.as_bytes()),
            salt: Salt::zeros(),
            data_block_size: BlockSize::PAGE,
            hash_block_size: BlockSize::PAGE,
            data_blocks: self.geometry.data_blocks(),
            hash_start_block: self.geometry.hash_start_block(),
        })
    }
}

impl From<Verity> for Sidecar {
    fn from(verity: Verity) -> Self {
        let block = u32::from(BlockSize::PAGE);
        Self {
            roothash: verity.root.hex(),
            hashoffset: verity.image_size(),
            salt: Salt::zeros().hex(),
            uuid: verity.uuid,
            hash_algorithm: ALGORITHM.to_owned(),
            hash_type: HASH_TYPE,
            data_block_size: block,
            hash_block_size: block,
            data_blocks: verity.geometry.data_blocks().get(),
        }
    }
}

impl TryFrom<Sidecar> for Verity {
    type Error = InvalidVerity;

    fn try_from(sidecar: Sidecar) -> Result<Self, Self::Error> {
        let invalid = |what: &str| InvalidVerity(what.to_owned());
        let root = format!("sha256:{}", sidecar.roothash).parse();
        let root = root.map_err(|_| invalid("the root hash has to be 64 lower-case hex digits"))?;
        let geometry = NonZeroU64::new(sidecar.data_blocks).and_then(Geometry::new);
        let geometry = geometry.ok_or_else(|| invalid("no image has so many blocks"))?;
        let block = u32::from(BlockSize::PAGE);
        if (sidecar.data_block_size, sidecar.hash_block_size) != (block, block) {
            return Err(invalid("blocks have to be of 4096 bytes"));
        }
        if (sidecar.hash_algorithm.as_str(), sidecar.hash_type) != (ALGORITHM, HASH_TYPE) {
            return Err(invalid("the hash has to be sha256, of hash type 1"));
        }
        if sidecar.salt != Salt::zeros().hex() {
            return Err(invalid("the salt has to be 32 zero bytes"));
        }
        if sidecar.hashoffset != geometry.hash_offset() {
            return Err(invalid("the tree has to follow the image at once"));
        }
        Ok(Self { geometry, root, uuid: sidecar.uuid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::verity::Leaves;

    fn verity() -> Verity {
        let tree = Leaves::of(&mut &[7; 3 * 4096][..]).unwrap().into_tree(3).unwrap();
        Verity::new(&tree, [0x11; 16])
    }

    #[test]
    fn the_sidecar_is_read_as_it_is_written() {
        let text = serde_json::to_value(verity()).unwrap();
        assert_eq!(
            text,
            serde_json::json!({
                "roothash": verity().root().hex(),
                "hashoffset": 12288,
                "salt": "00".repeat(32),
                "uuid": "11111111-1111-1111-1111-111111111111",
                "hash_algorithm": "sha256",
                "hash_type": 1,
                "data_block_size": 4096,
                "hash_block_size": 4096,
                "data_blocks": 3,
            })
        );
        assert_eq!(serde_json::from_value::<Verity>(text).unwrap(), verity());
    }

    #[test]
    fn another_form_is_refused() {
        for (key, value) in [
            ("roothash", serde_json::json!("ab")),
            ("hashoffset", serde_json::json!(8192)),
            ("salt", serde_json::json!("")),
            ("hash_algorithm", serde_json::json!("sha512")),
            ("hash_type", serde_json::json!(0)),
            ("data_block_size", serde_json::json!(512)),
            ("hash_block_size", serde_json::json!(512)),
            ("data_blocks", serde_json::json!(0)),
        ] {
            let mut text = serde_json::to_value(verity()).unwrap();
            text[key] = value;
            assert!(serde_json::from_value::<Verity>(text).is_err(), "{key}");
        }
    }

    #[test]
    fn parameters_are_those_of_the_tree() {
        let (geometry, root) = Geometry::of(&verity().parameters().unwrap()).unwrap();
        assert_eq!((geometry, root), (verity().geometry(), verity().root()));
    }
}
