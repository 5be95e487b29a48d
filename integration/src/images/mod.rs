//! Real images, made once and kept in the cache as OCI layouts.
//!
//! No public registry is needed: everything comes from Debian's archive, PyPI and npm, by their ordinary
//! clients, in pinned versions where the archive keeps versions.

pub mod bench;
pub mod demo;
pub mod encodings;
pub mod layout;
pub mod trees;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;

/// An image in the cache.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its repository name.
    pub name: &'static str,
    /// Directory of the OCI layout; the image's tag in it is `latest`.
    pub layout: PathBuf,
}

/// A manifest or an index, as far as we read it.
#[derive(Debug, Deserialize)]
struct Document {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct Descriptor {
    digest: String,
}

impl Image {
    /// Digests of the layers as stored, from the lowest up: `sha256:` and 64 hex digits.
    ///
    /// # Errors
    /// The layout cannot be read.
    pub fn layers(&self) -> Result<Vec<String>> {
        let manifest = self.read("index.json")?.manifests.into_iter().next().context("the index is empty")?;
        let manifest = self.read(&format!("blobs/{}", manifest.digest.replace(':', "/")))?;
        Ok(manifest.layers.into_iter().map(|layer| layer.digest).collect())
    }

    fn read(&self, file: &str) -> Result<Document> {
        let path = self.layout.join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("parse {}", path.display()))
    }
}
