//! What is told about a conversion.

use serde::Serialize;

use super::layer::Native;
use crate::cli::tool::oci::{Descriptor, Platform};
use crate::cli::tool::report::Line;
use crate::image::digest::Digest;

/// A blob, and what became of it.
#[derive(Debug, Serialize)]
pub(super) struct Converted {
    what: What,
    /// The blob as it was.
    source: Digest,
    /// The blob as it is; null for one that was left out.
    blob: Option<Digest>,
    /// Size of that in bytes.
    bytes: Option<u64>,
    /// Digest of a layer's EROFS image; null for what is no layer.
    diff_id: Option<Digest>,
    /// Which machine an image is for; null for what is none.
    platform: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum What {
    Layer,
    Image,
    /// What is no container image.
    LeftOut,
}

impl Converted {
    pub(super) fn layer(source: &Descriptor, native: &Native) -> Self {
        let Native { blob, diff_id } = native;
        Self { diff_id: Some(*diff_id), ..Self::new(What::Layer, source, Some(blob)) }
    }

    pub(super) fn image(source: &Descriptor, manifest: &Descriptor, platform: &Platform) -> Self {
        Self { platform: Some(platform.to_string()), ..Self::new(What::Image, source, Some(manifest)) }
    }

    pub(super) fn left_out(source: &Descriptor) -> Self {
        Self::new(What::LeftOut, source, None)
    }

    fn new(what: What, source: &Descriptor, blob: Option<&Descriptor>) -> Self {
        Self {
            what,
            source: source.digest,
            blob: blob.map(|blob| blob.digest),
            bytes: blob.and_then(|blob| blob.size),
            diff_id: None,
            platform: None,
        }
    }
}

impl Line for Converted {
    fn text(&self) -> String {
        let Self { what, source, blob, bytes, platform, .. } = self;
        let platform = platform.as_deref().unwrap_or_default();
        match (what, blob) {
            (What::Layer, Some(blob)) => {
                format!("layer {source} is now {blob}, {} bytes", bytes.unwrap_or(0))
            }
            (What::Image, Some(blob)) => format!("image {source} for {platform} is now {blob}"),
            _ => format!("left out {source}, which is no container image"),
        }
    }
}
