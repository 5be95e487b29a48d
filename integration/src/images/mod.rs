//! Real images, made once and kept in the cache as OCI layouts.
//!
//! No public registry is needed: everything comes from Debian's archive, PyPI and npm, by their ordinary
//! clients, in pinned versions where the archive keeps versions.

pub mod bench;
pub mod demo;
pub mod encodings;
pub mod layout;
pub mod shell;
pub mod tiny;
pub mod trees;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use crate::digest::hex;

/// An image in the cache.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its repository name.
    pub name: &'static str,
    /// Directory of the OCI layout; the image's tag in it is `latest`.
    pub layout: PathBuf,
}

/// A blob, as manifests name it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Its media type.
    pub media_type: String,
    /// `sha256:` and 64 hex digits.
    pub digest: String,
    /// Its size in bytes.
    pub size: u64,
}

/// A layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The layer as stored.
    pub blob: Descriptor,
    /// Digest of its tar.
    pub diff_id: String,
}

#[derive(Debug, Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Debug, Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

impl Image {
    /// The layers, from the lowest up.
    ///
    /// # Errors
    /// The layout cannot be read.
    pub fn layers(&self) -> Result<Vec<Layer>> {
        let index: Index = self.read("index.json")?;
        let manifest: Manifest = self.read_blob(index.manifests.first().context("the index is empty")?)?;
        let config: Config = self.read_blob(&manifest.config)?;
        let layers = manifest.layers.into_iter().zip(config.rootfs.diff_ids);
        Ok(layers.map(|(blob, diff_id)| Layer { blob, diff_id }).collect())
    }

    /// The name that containerd gives the snapshot of all layers.
    ///
    /// Format: OCI image specification 1.1, `config.md`, "Layer ChainID".
    ///
    /// # Errors
    /// The layout cannot be read, or the image has no layers.
    pub fn chain_id(&self) -> Result<String> {
        let of_two = |lower: String, upper: String| {
            format!("sha256:{}", hex(&Sha256::digest(format!("{lower} {upper}"))))
        };
        let diff_ids = self.layers()?.into_iter().map(|layer| layer.diff_id);
        diff_ids.reduce(of_two).context("the image has no layers")
    }

    fn read_blob<T: DeserializeOwned>(&self, blob: &Descriptor) -> Result<T> {
        self.read(&format!("blobs/{}", blob.digest.replace(':', "/")))
    }

    fn read<T: DeserializeOwned>(&self, file: &str) -> Result<T> {
        let path = self.layout.join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("parse {}", path.display()))
    }
}
