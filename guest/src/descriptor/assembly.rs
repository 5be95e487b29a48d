//! Where the parts of a root file system are.

use serde::{Deserialize, Serialize};

use crate::devices::Query;
use crate::policy::UpperKind;
use crate::verity::Parameters;

/// Where the image and the upper are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Members", try_from = "Members")]
pub struct Assembly {
    /// What the image is on.
    pub image: ImageSource,
    /// What takes the writes.
    pub upper: UpperSource,
}

/// What an image is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageSource {
    /// A device for each layer of the manifest, oldest first.
    Layers(Vec<LayerSource>),
    /// One device with merged metadata, the files of all layers and one hash tree (Linux 6.4).
    Merged(LayerSource),
}

/// Where a layer, or the merged image, is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerSource {
    /// Its device.
    pub device: Query,
    /// What the host thinks its parameters are. The manifest's are used; others here are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Parameters>,
}

/// What takes the writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum UpperSource {
    /// Nothing: the root file system is read-only.
    None,
    /// The guest's memory.
    Tmpfs {
        /// How much of it, in bytes; half of it if not said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
    },
    /// A device with an ext4 file system.
    Device(Query),
    /// A device whose content means nothing: the guest makes a file system on it, behind a key that it makes too.
    Encrypted(Query),
}

/// An [`Assembly`] as JSON has it: one of `layers` and `merged`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Members {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layers: Option<Vec<LayerSource>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    merged: Option<LayerSource>,
    upper: UpperSource,
}

impl Assembly {
    /// Longest text in bytes: 500 layers with the longest names and salts.
    pub const LIMIT: usize = 1 << 20;

    /// All devices that are needed.
    pub fn queries(&self) -> impl Iterator<Item = &Query> {
        let upper = match &self.upper {
            UpperSource::Device(query) | UpperSource::Encrypted(query) => Some(query),
            UpperSource::None | UpperSource::Tmpfs { .. } => None,
        };
        self.image.sources().iter().map(|source| &source.device).chain(upper)
    }
}

impl ImageSource {
    /// The devices: one for each layer, oldest first, or the one.
    #[must_use]
    pub fn sources(&self) -> &[LayerSource] {
        match self {
            Self::Layers(layers) => layers,
            Self::Merged(image) => std::slice::from_ref(image),
        }
    }

    /// The same, to be changed.
    pub fn sources_mut(&mut self) -> &mut [LayerSource] {
        match self {
            Self::Layers(layers) => layers,
            Self::Merged(image) => std::slice::from_mut(image),
        }
    }
}

impl UpperSource {
    /// Which kind it is.
    #[must_use]
    pub const fn kind(&self) -> UpperKind {
        match self {
            Self::None => UpperKind::None,
            Self::Tmpfs { .. } => UpperKind::Tmpfs,
            Self::Device(_) => UpperKind::Device,
            Self::Encrypted(_) => UpperKind::Encrypted,
        }
    }
}

impl From<Assembly> for Members {
    fn from(assembly: Assembly) -> Self {
        let (layers, merged) = match assembly.image {
            ImageSource::Layers(layers) => (Some(layers), None),
            ImageSource::Merged(image) => (None, Some(image)),
        };
        Self { layers, merged, upper: assembly.upper }
    }
}

impl TryFrom<Members> for Assembly {
    type Error = &'static str;

    fn try_from(members: Members) -> Result<Self, Self::Error> {
        let image = match (members.layers, members.merged) {
            (Some(layers), None) => ImageSource::Layers(layers),
            (None, Some(image)) => ImageSource::Merged(image),
            _ => return Err("an assembly has either layers or merged"),
        };
        Ok(Self { image, upper: members.upper })
    }
}
