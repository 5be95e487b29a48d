//! OCI image layouts as a source of layers.
//!
//! Format: OCI image specification 1.1, `image-layout.md`, `image-index.md`, `manifest.md`, `config.md`.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::Error;
use crate::image::digest::Digest;
use crate::store;

/// How deep indexes may name indexes. Images for several machines have one below the layout's own.
const DEPTH: u32 = 4;

/// A layer of an image in a layout.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Layer {
    /// The file with the blob.
    pub(super) path: PathBuf,
    /// The blob's digest.
    pub(super) blob: Digest,
    /// Digest of its tar, as the image's configuration says.
    pub(super) diff_id: Digest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: Digest,
}

/// An index or a manifest; which one shows in its fields.
#[derive(Deserialize)]
#[serde(untagged)]
enum Manifest {
    Image { config: Descriptor, layers: Vec<Descriptor> },
    Index { manifests: Vec<Descriptor> },
}

#[derive(Deserialize)]
struct Configuration {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<Digest>,
}

/// The layers of all images in a layout, each once.
pub(super) fn layers(layout: &Path) -> Result<Vec<Layer>, Error> {
    let mut layers = Vec::new();
    collect(layout, &layout.join("index.json"), DEPTH, &mut layers)?;
    layers.sort();
    layers.dedup();
    Ok(layers)
}

fn collect(layout: &Path, manifest: &Path, depth: u32, layers: &mut Vec<Layer>) -> Result<(), Error> {
    match read(manifest)? {
        Manifest::Index { manifests } => {
            for descriptor in manifests.iter().filter(|_| depth > 0) {
                collect(layout, &blob(layout, &descriptor.digest), depth - 1, layers)?;
            }
        }
        Manifest::Image { config, layers: found } => {
            // What is no container image, a signature for example, has layers of other types.
            if !found.iter().all(|layer| layer.media_type.contains(".tar")) {
                return Ok(());
            }
            let configuration: Configuration = read(&blob(layout, &config.digest))?;
            let pairs = found.iter().zip(configuration.rootfs.diff_ids);
            layers.extend(pairs.map(|(layer, diff_id)| Layer {
                path: blob(layout, &layer.digest),
                blob: layer.digest,
                diff_id,
            }));
        }
    }
    Ok(())
}

fn blob(layout: &Path, digest: &Digest) -> PathBuf {
    layout.join("blobs/sha256").join(digest.hex())
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = fs::read(path).map_err(|source| store::Error::Io {
        operation: "read",
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_slice(&text).map_err(|source| Error::Layout { path: path.to_owned(), source })
}
