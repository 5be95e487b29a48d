//! What is known about a layer.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{LAYOUT_VERSION, LayerKey, RootAttributes};
use crate::image::digest::Digest;

/// What is known about a layer. The same text stands in the database and, as `layer.json`, beside
/// the layer's file, from which a lost database is rebuilt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Its directory name.
    pub key: LayerKey,
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Version of the image layout.
    pub layout: u32,
    /// Size of the uncompressed tar in bytes.
    pub tar_bytes: u64,
    /// Size of `layer.erofs` in bytes.
    pub image_bytes: u64,
    /// Attributes of `/`; None if the tar does not name it.
    pub root: Option<RootAttributes>,
    /// Compressed digests that were seen to give this layer.
    pub blobs: BTreeSet<Digest>,
}

impl LayerRecord {
    /// The record of a layer in the current layout.
    #[must_use]
    pub fn new(
        diff_id: Digest,
        tar_bytes: u64,
        image_bytes: u64,
        root: Option<RootAttributes>,
        blob: Digest,
    ) -> Self {
        Self {
            key: LayerKey::new(LAYOUT_VERSION, &diff_id),
            diff_id,
            layout: LAYOUT_VERSION,
            tar_bytes,
            image_bytes,
            root,
            blobs: BTreeSet::from([blob]),
        }
    }

    /// Whether the key is the one that the diffID and the layout give.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        self.key == LayerKey::new(self.layout, &self.diff_id)
    }
}
