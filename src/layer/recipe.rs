//! How the content of a blob becomes a layer's file. With the diffID it decides the layer's key, so that
//! two files of one content never share a place.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::LAYOUT_VERSION;
use crate::image::digest::Digest;

/// Version of the rules by which a native EROFS layer is taken over (`docs/layer-formats.md`).
const EROFS_VERSION: u32 = 1;
/// Version of what is passed to mkfs.erofs besides the operator's options, and of what is done to its output.
const MKFS_VERSION: u32 = 1;
/// The same of the tar index.
const TAR_INDEX_VERSION: u32 = 1;

/// How the content of a blob becomes a layer's file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recipe {
    /// A tar, written by this project's builder in its image layout.
    #[default]
    Native,
    /// A tar, written by mkfs.erofs.
    Mkfs(MkfsBuild),
    /// A tar, kept as it is behind an index that mkfs.erofs writes.
    TarIndex(MkfsBuild),
    /// An EROFS image, kept as it is.
    Erofs,
}

/// What the bytes of a layer that mkfs.erofs wrote depend on besides the tar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MkfsBuild {
    /// The version of erofs-utils, as it names itself.
    pub version: String,
    /// The operator's options, in their order.
    pub options: Vec<String>,
}

/// What the content of a blob is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A tar.
    Tar,
    /// An EROFS image.
    Erofs,
}

impl Recipe {
    /// Whether this is the builder of the project, which records do not mention.
    #[must_use]
    pub fn is_native(&self) -> bool {
        *self == Self::Native
    }

    /// What it takes.
    #[must_use]
    pub const fn takes(&self) -> Content {
        match self {
            Self::Native | Self::Mkfs(_) | Self::TarIndex(_) => Content::Tar,
            Self::Erofs => Content::Erofs,
        }
    }

    /// Version of what it makes; a file of another version is another layer.
    #[must_use]
    pub const fn version(&self) -> u32 {
        match self {
            Self::Native => LAYOUT_VERSION,
            Self::Mkfs(_) => MKFS_VERSION,
            Self::TarIndex(_) => TAR_INDEX_VERSION,
            Self::Erofs => EROFS_VERSION,
        }
    }

    /// The digest that tells its layers apart: the diffID where nothing else counts, or a digest over the
    /// diffID and whatever else the bytes depend on.
    #[must_use]
    pub(super) fn identity(&self, diff_id: &Digest) -> Digest {
        match self {
            Self::Native | Self::Erofs => *diff_id,
            Self::Mkfs(build) | Self::TarIndex(build) => build.identity(diff_id),
        }
    }
}

impl MkfsBuild {
    fn identity(&self, diff_id: &Digest) -> Digest {
        let mut hash = Sha256::new();
        let texts = [diff_id.to_string()].into_iter().chain([self.version.clone()]);
        for text in texts.chain(self.options.iter().cloned()) {
            // A length before each text, or two lists of options could read the same.
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
        Digest::from_bytes(hash.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mkfs(version: &str, options: &[&str]) -> Recipe {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Recipe::Mkfs(MkfsBuild { version: version.to_owned(), options })
    }

    #[test]
    fn whatever_changes_the_bytes_changes_the_identity() {
        let diff_id = Digest::of(b"abc");
        let recipes = [
            mkfs("1.9.4", &["-zlz4", "-C65536"]),
            mkfs("1.9.3", &["-zlz4", "-C65536"]),
            mkfs("1.9.4", &["-C65536", "-zlz4"]),
            mkfs("1.9.4", &["-zlz4-C65536"]),
            mkfs("1.9.4", &[]),
            Recipe::Native,
        ];
        let identities: std::collections::BTreeSet<_> =
            recipes.iter().map(|recipe| recipe.identity(&diff_id)).collect();
        assert_eq!(identities.len(), recipes.len());
        assert_ne!(recipes[0].identity(&diff_id), recipes[0].identity(&Digest::of(b"")));
    }

    #[test]
    fn a_recipe_is_read_as_it_is_written() {
        let recipes = [Recipe::Native, Recipe::Erofs, mkfs("1.9.4", &["-zlz4"])];
        for recipe in recipes {
            let text = serde_json::to_string(&recipe).unwrap();
            assert_eq!(serde_json::from_str::<Recipe>(&text).unwrap(), recipe, "{text}");
        }
        assert_eq!(serde_json::to_string(&Recipe::Erofs).unwrap(), r#""erofs""#);
    }
}
