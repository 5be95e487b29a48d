//! Manifests for the tests of this crate.

use std::num::NonZeroU64;

use ed25519_dalek::{Signer as _, SigningKey};

use crate::digest::Digest;
use crate::manifest::{
    Fields, Image, Layer, LayoutVersion, Manifest, Merged, Platform, PublicKey, Signature, SignatureBytes,
    SignedManifest, Statement, UnixTime,
};
use crate::verity::{self, BlockSize, Parameters, RootDigest, Salt};

/// The table of a layer of so many blocks, with a root that is told by `seed`.
pub(crate) fn verity(data_blocks: u64, seed: u16) -> Parameters {
    Parameters::new(verity::Fields {
        root_digest: RootDigest::Sha256(*Digest::of_parts(&[b"root", &seed.to_be_bytes()]).as_bytes()),
        salt: Salt::zeros(),
        data_block_size: BlockSize::PAGE,
        hash_block_size: BlockSize::PAGE,
        data_blocks: NonZeroU64::new(data_blocks).unwrap(),
        hash_start_block: data_blocks + 1,
    })
    .unwrap()
}

pub(crate) fn layer(data_blocks: u64, seed: u16) -> Layer {
    Layer::of(Digest::of_parts(&[b"tar", &seed.to_be_bytes()]), verity(data_blocks, seed)).unwrap()
}

/// A manifest of so many layers, each of another size.
pub(crate) fn manifest(layers: usize) -> Manifest {
    Manifest::new(Fields {
        layout_version: LayoutVersion::V1,
        image: Some(Image { manifest: Digest::of(b"manifest"), config: Digest::of(b"config") }),
        platform: Platform {
            os: "linux".parse().unwrap(),
            architecture: "amd64".parse().unwrap(),
            variant: None,
        },
        layers: (1..=layers as u16).map(|seed| layer(u64::from(seed) * 3, seed)).collect(),
        merged: None,
    })
    .unwrap()
}

/// The same with a merged image that has five blocks of metadata.
pub(crate) fn merged_manifest(layers: usize) -> Manifest {
    let fields = manifest(layers).fields().clone();
    let blocks = fields.layers.iter().map(|layer| layer.fields().size / 4096).sum::<u64>() + 5;
    Manifest::new(Fields { merged: Some(Merged::of(verity(blocks, 99)).unwrap()), ..fields }).unwrap()
}

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn public(key: &SigningKey) -> PublicKey {
    PublicKey::new(key.verifying_key().as_bytes()).unwrap()
}

/// What key 1 says about a manifest: example, version 7, until the end of the year 9999.
pub(crate) fn statement(manifest: &Manifest) -> Statement {
    Statement {
        image_hash: manifest.image_hash(),
        key_id: public(&key(1)).id(),
        version: 7,
        name: Some("registry.example/app".parse().unwrap()),
        expires: Some(UnixTime(253_402_300_799)),
    }
}

pub(crate) fn sign(statement: Statement, key: &SigningKey) -> Signature {
    let signature = SignatureBytes(key.sign(&statement.message()).to_bytes());
    Signature { statement, signature }
}

/// The manifest, signed by key 1.
pub(crate) fn signed(manifest: &Manifest) -> SignedManifest {
    let signature = sign(statement(manifest), &key(1));
    SignedManifest { manifest: manifest.clone(), signatures: vec![signature] }
}
