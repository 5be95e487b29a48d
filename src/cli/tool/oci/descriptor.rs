//! What names a blob.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Platform;
use crate::image::digest::Digest;

/// What a blob is and how it is found. Fields that are not known here are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct Descriptor {
    /// What it is; empty where the writer left it out.
    #[serde(default)]
    pub(in super::super) media_type: String,
    pub(in super::super) digest: Digest,
    /// Bytes of the blob, where the writer says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in super::super) size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in super::super) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(in super::super) annotations: BTreeMap<String, String>,
    #[serde(flatten)]
    pub(in super::super) rest: Map<String, Value>,
}

/// Annotations that hold the name of an image in a layout: of the image specification (`annotations.md`),
/// and containerd's with the full name (`core/images/annotations.go`).
const NAMES: [&str; 2] = ["org.opencontainers.image.ref.name", "io.containerd.image.name"];

impl Descriptor {
    /// What names a blob of `size` bytes.
    pub(in super::super) fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size: Some(size),
            platform: None,
            annotations: BTreeMap::new(),
            rest: Map::new(),
        }
    }

    /// The same with these annotations.
    pub(in super::super) fn with_annotations(self, annotations: BTreeMap<String, String>) -> Self {
        Self { annotations, ..self }
    }

    /// Whether the layout calls the image so.
    pub(in super::super) fn is_called(&self, name: &str) -> bool {
        self.names().any(|own| own == name)
    }

    /// What the layout calls the image.
    pub(in super::super) fn names(&self) -> impl Iterator<Item = &str> {
        NAMES.iter().filter_map(|key| self.annotations.get(*key).map(String::as_str))
    }

    /// Whether the blob is a layer that is a tar, compressed or not.
    pub(in super::super) fn is_tar(&self) -> bool {
        self.media_type.contains(".tar") && !self.media_type.ends_with("+encrypted")
    }

    /// Whether the blob is a layer that is an EROFS image, compressed or not.
    pub(in super::super) fn is_erofs(&self) -> bool {
        self.media_type.starts_with("application/vnd.erofs.layer.")
    }
}
