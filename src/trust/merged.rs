//! The merged image in a manifest.

use nexuserofs_guest::manifest::{Fields, InvalidManifest, InvalidMerged, Manifest, Merged};
use nexuserofs_guest::verity::InvalidParameters;

use crate::layer::chain::Outcome;

/// Why a manifest cannot say what the merged image of its layers is.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none.
    #[error("the layers cannot be merged, so list them without --merged: {reason}")]
    Unmergeable {
        /// Why not.
        reason: String,
    },
    /// A layer has nothing that pins it.
    #[error("a layer has no dm-verity tree, and so its merged image has none: build all with one")]
    NoTree,
    /// It is larger than a device can be.
    #[error("the merged image has parameters that no device has")]
    Parameters(#[from] InvalidParameters),
    /// It is larger than a manifest can say.
    #[error("the merged image cannot be listed")]
    Merged(#[from] InvalidMerged),
    /// It is of other layers, or of a single one.
    #[error(transparent)]
    Manifest(#[from] InvalidManifest),
}

/// The manifest with the merged image of its layers, which became of them when they were merged. It has another image
/// hash.
///
/// # Errors
/// If they cannot be merged or have no trees, and for an image of a single layer, which needs no merging.
pub fn merged(manifest: &Manifest, chain: &Outcome) -> Result<Manifest, Error> {
    let verity = match chain {
        Outcome::Merged { verity, .. } => verity.ok_or(Error::NoTree)?,
        Outcome::Unmergeable { unmergeable } => {
            return Err(Error::Unmergeable { reason: unmergeable.clone() });
        }
    };
    let merged = Some(Merged::of(verity.parameters()?)?);
    Ok(Manifest::new(Fields { merged, ..manifest.fields().clone() })?)
}
