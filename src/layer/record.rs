//! What is known about a layer.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{LAYOUT_VERSION, LayerKey, Recipe, RootAttributes, Verity};
use crate::image::digest::Digest;
use crate::store::unique::Unique;

/// What is known about a layer. The same text stands in the database and, as `layer.json`, beside
/// the layer's file, from which a lost database is rebuilt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Its directory name.
    pub key: LayerKey,
    /// Version of the image layout, or of the recipe where that is another than the project's own.
    pub layout: u32,
    /// Size of `layer.erofs` in bytes, with its dm-verity tree.
    pub image_bytes: u64,
    /// Attributes of `/`; None if the layer is of a tar that does not name it.
    pub root: Option<RootAttributes>,
    /// The dm-verity tree at the end of the file; None if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verity: Option<Verity>,
    /// The digest by which fs-verity knows the file; None if the file is not sealed with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fsverity: Option<Digest>,
    /// What it was made of.
    #[serde(flatten)]
    pub source: Source,
}

/// What a layer was made of. Which it is shows in the fields that a record has, so that records of
/// schema version 1, which knows tars only, are read as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Source {
    /// The content of a blob: whoever has the same and makes it in the same way has the same layer.
    FromBlob(FromBlob),
    /// What a snapshot wrote. Nobody else has that.
    Written {
        /// The layer's random name.
        written: Unique,
    },
}

/// The content that a layer was made of, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FromBlob {
    /// Digest of the content, decompressed: the tar, or the EROFS image.
    pub diff_id: Digest,
    /// Its size in bytes. Records have called it so since all content was tars.
    #[serde(rename = "tar_bytes")]
    pub bytes: u64,
    /// Compressed digests that were seen to give this layer.
    pub blobs: BTreeSet<Digest>,
    /// How it became the layer's file.
    #[serde(default, skip_serializing_if = "Recipe::is_native")]
    pub recipe: Recipe,
}

/// A layer that was made of a blob, which is the only kind that a differ makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobLayer {
    /// Its directory name.
    pub key: LayerKey,
    /// Size of `layer.erofs` in bytes.
    pub image_bytes: u64,
    /// What the blob held.
    pub content: FromBlob,
}

impl LayerRecord {
    /// The record of a layer of a tar in the current layout.
    #[must_use]
    pub fn from_tar(
        diff_id: Digest,
        tar_bytes: u64,
        image_bytes: u64,
        root: Option<RootAttributes>,
        blob: Digest,
    ) -> Self {
        let blobs = BTreeSet::from([blob]);
        let content = FromBlob { diff_id, bytes: tar_bytes, blobs, recipe: Recipe::Native };
        Self::from_blob(content, image_bytes, root)
    }

    /// The record of a layer that the current version of its recipe made of a blob's content.
    #[must_use]
    pub fn from_blob(content: FromBlob, image_bytes: u64, root: Option<RootAttributes>) -> Self {
        let layout = content.recipe.version();
        Self {
            key: LayerKey::made(&content.recipe, layout, &content.diff_id),
            layout,
            image_bytes,
            root,
            verity: None,
            fsverity: None,
            source: Source::FromBlob(content),
        }
    }

    /// The record of a layer of what a snapshot wrote, in the current layout.
    #[must_use]
    pub fn written(unique: Unique, image_bytes: u64, root: RootAttributes) -> Self {
        Self {
            key: LayerKey::written(LAYOUT_VERSION, unique),
            layout: LAYOUT_VERSION,
            image_bytes,
            root: Some(root),
            verity: None,
            fsverity: None,
            source: Source::Written { written: unique },
        }
    }

    /// The same record with the tree that the file ends with.
    #[must_use]
    pub fn with_verity(self, verity: Option<Verity>) -> Self {
        Self { verity, ..self }
    }

    /// What the layer was made of, if it was of a blob.
    #[must_use]
    pub const fn content(&self) -> Option<&FromBlob> {
        match &self.source {
            Source::FromBlob(content) => Some(content),
            Source::Written { .. } => None,
        }
    }

    /// Digest of the tar that this project's builder made the layer of. Such a layer has the same bytes on
    /// every host; None for all others.
    #[must_use]
    pub fn native_diff_id(&self) -> Option<Digest> {
        let content = self.content().filter(|content| content.recipe.is_native());
        content.map(|content| content.diff_id)
    }

    /// The layer as a differ sees it, if it was made of a blob.
    #[must_use]
    pub fn blob_layer(&self) -> Option<BlobLayer> {
        let content = self.content()?.clone();
        Some(BlobLayer { key: self.key.clone(), image_bytes: self.image_bytes, content })
    }

    /// The same layer, as one that no blob was seen to give.
    #[must_use]
    pub fn without_blobs(mut self) -> Self {
        if let Source::FromBlob(content) = &mut self.source {
            content.blobs.clear();
        }
        self
    }

    /// Whether the key is the one that source and layout give, and the size that of image and tree.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        let has_its_size = |verity: &Verity| verity.geometry().file_size() == self.image_bytes;
        self.verity.as_ref().is_none_or(has_its_size)
            && self.key
                == match &self.source {
                    Source::FromBlob(content) => {
                        LayerKey::made(&content.recipe, self.layout, &content.diff_id)
                    }
                    Source::Written { written } => LayerKey::written(self.layout, *written),
                }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_schema_version_1_is_read_and_written_as_it_is() {
        let digest = Digest::of(b"abc");
        let text = format!(
            r#"{{"key":"v1-ba7816bf8f01cfea414140de5dae2223","diff_id":"{digest}","layout":1,"tar_bytes":10240,"image_bytes":8192,"root":{{"mode":493,"uid":0,"gid":0,"xattrs":{{}}}},"blobs":["{digest}"]}}"#
        );
        let record: LayerRecord = serde_json::from_str(&text).unwrap();
        assert_eq!(record, LayerRecord::from_tar(digest, 10240, 8192, Some(RootAttributes::PLAIN), digest));
        assert!(record.is_consistent());
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(&serde_json::to_string(&record).unwrap()), value(&text));
    }

    #[test]
    fn a_written_layer_is_told_apart() {
        let unique: Unique = "000000000000000000000000000000ab".parse().unwrap();
        let record = LayerRecord::written(unique, 8192, RootAttributes::PLAIN);
        let text = serde_json::to_string(&record).unwrap();
        assert!(text.contains(r#""written":"000000000000000000000000000000ab""#), "{text}");
        assert_eq!(serde_json::from_str::<LayerRecord>(&text).unwrap(), record);
        assert!(record.is_consistent() && record.content().is_none());
        let mut foreign = record;
        foreign.key = LayerKey::written(1, Unique::new().unwrap());
        assert!(!foreign.is_consistent());
    }

    #[test]
    fn a_layer_of_another_recipe_is_told_apart() {
        let diff_id = Digest::of(b"abc");
        let content = FromBlob { diff_id, bytes: 8192, blobs: [diff_id].into(), recipe: Recipe::Erofs };
        let record = LayerRecord::from_blob(content, 8192, None);
        let text = serde_json::to_string(&record).unwrap();
        assert!(text.contains(r#""recipe":"erofs""#), "{text}");
        assert_eq!(serde_json::from_str::<LayerRecord>(&text).unwrap(), record);
        assert!(record.is_consistent() && record.native_diff_id().is_none());
        let mut foreign = record;
        foreign.key = LayerKey::new(1, &diff_id);
        assert!(!foreign.is_consistent());
    }
}
