//! The attributes of `/` as a layer sets them.
//!
//! Overlay shows the attributes of its topmost directory, which is an empty one of ours, so what
//! the image says about `/` has to be copied there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::image::tree::Metadata;

/// Owner, mode and extended attributes of the root directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootAttributes {
    /// The low 12 bits of `st_mode`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Extended attributes by full name.
    #[serde(with = "base64_map")]
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl RootAttributes {
    /// What `/` is where no layer says anything: 0755, root, no extended attributes.
    pub const PLAIN: Self = Self { mode: 0o755, uid: 0, gid: 0, xattrs: BTreeMap::new() };

    /// What a layer says about `/`. Overlay's own attributes stay behind: on the writable layer, which
    /// gets the rest, an opaque mark would hide the whole image.
    #[must_use]
    pub fn of(root: &Metadata) -> Self {
        let Metadata { mode, uid, gid, mut xattrs, .. } = root.clone();
        xattrs.retain(|name, _| !name.starts_with(b"trusted.overlay."));
        Self { mode, uid, gid, xattrs }
    }
}

impl Default for RootAttributes {
    /// [`RootAttributes::PLAIN`].
    fn default() -> Self {
        Self::PLAIN
    }
}

/// A map of bytes to bytes as a JSON object with base64 names and values.
mod base64_map {
    use std::collections::BTreeMap;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(
        map: &BTreeMap<Vec<u8>, Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer
            .collect_map(map.iter().map(|(name, value)| (STANDARD.encode(name), STANDARD.encode(value))))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, D::Error> {
        let texts = BTreeMap::<String, String>::deserialize(deserializer)?;
        let decode = |text: String| STANDARD.decode(text).map_err(D::Error::custom);
        texts.into_iter().map(|(name, value)| Ok((decode(name)?, decode(value)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_survive_json() {
        let xattrs =
            BTreeMap::from([(b"user.\xff".to_vec(), vec![0, 1, 255]), (b"user.empty".to_vec(), vec![])]);
        let root = RootAttributes { mode: 0o1777, uid: 70_000, gid: 5, xattrs };
        let text = serde_json::to_string(&root).unwrap();
        assert_eq!(serde_json::from_str::<RootAttributes>(&text).unwrap(), root);
    }
}
