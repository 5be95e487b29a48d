//! The manifest of layers that were built.

use nexuserofs_guest::manifest::{
    Fields, Image, InvalidLayer, InvalidManifest, Layer, LayerFields, LayoutVersion, Manifest, Platform,
};
use nexuserofs_guest::verity::InvalidParameters;

use crate::layer::{LayerKey, LayerRecord};

/// Why there is no manifest of these layers.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody else could compute it.
    #[error("layer {key} was not made of a tar in image layout v1, so no manifest can list it")]
    Foreign {
        /// The layer.
        key: LayerKey,
    },
    /// It has nothing that pins it.
    #[error("layer {key} has no dm-verity tree: build it with one")]
    NoTree {
        /// The layer.
        key: LayerKey,
    },
    /// It is larger than a device can be.
    #[error("layer {key} has parameters that no device has")]
    Parameters {
        /// The layer.
        key: LayerKey,
        /// Why.
        source: InvalidParameters,
    },
    /// Its file has another length than its tree gives it.
    #[error("layer {key} cannot be listed")]
    Layer {
        /// The layer.
        key: LayerKey,
        /// Why.
        source: InvalidLayer,
    },
    /// No layers, or too many.
    #[error(transparent)]
    Manifest(#[from] InvalidManifest),
}

/// The manifest of an image with these layers, oldest first. It is a function of the image: where and when
/// the layers were built is not in it.
///
/// # Errors
/// For a layer that is not of image layout v1 or has no tree, and for a number of layers that no manifest has.
pub fn list(records: &[LayerRecord], image: Option<Image>, platform: Platform) -> Result<Manifest, Error> {
    let layers = records.iter().map(layer).collect::<Result<_, _>>()?;
    Ok(Manifest::new(Fields { layout_version: LayoutVersion::V1, image, platform, layers, merged: None })?)
}

fn layer(record: &LayerRecord) -> Result<Layer, Error> {
    let key = || record.key.clone();
    let diff_id = record.native_diff_id().ok_or_else(|| Error::Foreign { key: key() })?;
    let verity = record.verity.ok_or_else(|| Error::NoTree { key: key() })?;
    let verity = verity.parameters().map_err(|source| Error::Parameters { key: key(), source })?;
    let fields = LayerFields { diff_id, size: record.image_bytes, verity };
    Layer::new(fields).map_err(|source| Error::Layer { key: key(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::empty::{self, EmptyLayer};
    use crate::layer::Verity;

    /// Guests take the layer that plans are filled up with, although no manifest lists it: this one and no other.
    #[test]
    fn guests_know_the_layer_that_holds_nothing() {
        let EmptyLayer { file, geometry, root, uuid } = empty::layer().unwrap();
        let verity = Verity::of(geometry, root, uuid).parameters().unwrap();
        let made = LayerFields { diff_id: empty::diff_id(), size: file.len() as u64, verity };
        assert_eq!(LayoutVersion::V1.empty_layer().unwrap().fields(), &made);
    }
}
