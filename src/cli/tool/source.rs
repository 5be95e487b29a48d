//! What layers are built of: tars, standard input, and the layers of images.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::Error;
use super::oci::image::Layer;
use super::oci::layout::Opened;
use super::oci::{Image, Layout, Selection};
use crate::diff::offline::Converted;

/// Stands for standard input.
const INPUT: &str = "-";

/// The blob of a layer that is a tar, plain or compressed.
#[derive(Clone, Debug)]
pub(super) enum Blob {
    /// Standard input.
    Input,
    /// A file of its own, of which nothing is known.
    File(PathBuf),
    /// A layer of an image.
    Layer { layout: Arc<Layout>, layer: Box<Layer> },
}

/// The blobs at `path`: a tar is one, a layout has those of all images that are meant, each once.
pub(super) fn blobs(path: &Path, selection: &Selection) -> Result<Vec<Blob>, Error> {
    if path == Path::new(INPUT) {
        return Ok(vec![Blob::Input]);
    }
    let Some(layout) = Layout::find(path)? else { return Ok(vec![layer(path)]) };
    let mut layers: Vec<Layer> = Vec::new();
    for layer in Image::all(&layout, selection)?.into_iter().flat_map(|image| image.layers) {
        // What is an EROFS image already is not built.
        if layer.blob.is_tar() && !layers.iter().any(|known| known.blob.digest == layer.blob.digest) {
            layers.push(layer);
        }
    }
    let layout = Arc::new(layout);
    Ok(layers
        .into_iter()
        .map(|layer| Blob::Layer { layout: Arc::clone(&layout), layer: Box::new(layer) })
        .collect())
}

/// The blob at `path`, whatever is in it.
pub(super) fn layer(path: &Path) -> Blob {
    if path == Path::new(INPUT) { Blob::Input } else { Blob::File(path.to_owned()) }
}

impl Blob {
    /// The layer of an image that this is, with what the image says about it.
    pub(super) fn layer(&self) -> Option<&Layer> {
        match self {
            Self::Layer { layer, .. } => Some(layer),
            Self::Input | Self::File(_) => None,
        }
    }

    /// Its name, for messages.
    pub(super) fn name(&self) -> PathBuf {
        match self {
            Self::Input => PathBuf::from("standard input"),
            Self::File(path) => path.clone(),
            Self::Layer { layout, layer } => layout.blob_name(&layer.blob.digest),
        }
    }

    /// How long it is, in bytes; 0 where that is not known before its end.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Input => 0,
            Self::File(path) => path.metadata().map_or(0, |found| found.len()),
            Self::Layer { layer, .. } => layer.blob.size.unwrap_or(0),
        }
    }

    /// Opens it.
    pub(super) fn open(&self) -> Result<Opened, Error> {
        match self {
            Self::Input => Ok(Opened { bytes: Box::new(io::stdin()), length: 0 }),
            Self::File(path) => {
                let failed = |source| Error::Source { path: path.clone(), source };
                let file = File::open(path).map_err(failed)?;
                let length = file.metadata().map_err(failed)?.len();
                Ok(Opened { bytes: Box::new(file), length })
            }
            Self::Layer { layout, layer } => layout.open_blob(&layer.blob.digest),
        }
    }

    /// Refuses what was read if its image says that it is something else.
    pub(super) fn check(&self, converted: &Converted) -> Result<(), Error> {
        self.layer().map_or(Ok(()), |layer| layer.check(converted, || self.name()))
    }
}
