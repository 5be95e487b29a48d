//! What one source says: every setting optional, no value checked yet.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer};

/// The settings that one source (the flags or the file) gives.
///
/// The names of the fields are the keys of the file; a flag has the same name with dashes.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "each field is described once, in docs/operations.md and on its flag")]
pub struct Fragment {
    pub root: Option<Sourced<String>>,
    pub address: Option<Sourced<String>>,
    pub containerd_address: Option<Sourced<String>>,
    pub containerd_namespace: Option<Sourced<String>>,
    pub log_level: Option<Sourced<String>>,
    pub log_format: Option<Sourced<String>>,
    pub default_size: Option<Sourced<RawSize>>,
    pub enable_fsverity: Option<Sourced<bool>>,
    pub set_immutable: Option<Sourced<bool>>,
    pub mkfs_options: Option<Vec<Sourced<String>>>,
    pub overlay_options: Option<Vec<Sourced<String>>>,
    /// Only in the file.
    pub builder: Option<Sourced<String>>,
    /// Only in the file.
    pub verity: Option<Sourced<String>>,
    /// Only in the file.
    pub layer_content_caches: Option<Vec<Sourced<String>>>,
    /// Only in the file.
    pub trust_layer_content_caches: Option<Sourced<bool>>,
    /// `[profiles.NAME]`, only in the file.
    #[serde(default)]
    pub profiles: BTreeMap<String, Sourced<ProfileFragment>>,
}

/// What one `[profiles.NAME]` says. What it leaves out comes from the top of the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "as for Fragment")]
pub struct ProfileFragment {
    pub flavour: Option<Sourced<String>>,
    pub layers: Option<Sourced<String>>,
    pub project_quota: Option<Sourced<String>>,
    pub verity: Option<Sourced<String>>,
    pub default_size: Option<Sourced<RawSize>>,
    pub overlay_options: Option<Vec<Sourced<String>>>,
}

/// A size as it was written: `1048576` or `"20GiB"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected a number of bytes or a text such as \"20GiB\"")]
pub enum RawSize {
    /// A TOML integer: bytes.
    Bytes(i64),
    /// A text, with or without a suffix.
    Text(String),
}

impl fmt::Display for RawSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => bytes.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// A value and where it was written, for the error that may be made of it.
#[derive(Clone, Debug)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub(super) place: Place,
}

/// Where a value was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nowhere: it is the default.
    Default,
    /// On the command line.
    Flag,
    /// In the file, this many bytes from its start.
    File(usize),
}

impl<T> Sourced<T> {
    /// A value that stood on the command line.
    pub fn flag(value: T) -> Self {
        Self { value, place: Place::Flag }
    }

    /// A value that nobody wrote.
    pub(super) fn default(value: T) -> Self {
        Self { value, place: Place::Default }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Sourced<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = toml::Spanned::<T>::deserialize(deserializer)?;
        let place = Place::File(spanned.span().start);
        Ok(Self { value: spanned.into_inner(), place })
    }
}
