//! The description of a root file system.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::canonical::{self, Canonical, NotCanonical};
use crate::devices::Query;
use crate::manifest::SignedManifest;
use crate::policy::UpperKind;
use crate::verity::Parameters;

/// What to make a root file system of.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Descriptor {
    /// The list of the layers.
    pub signed: SignedManifest,
    /// Where they are.
    pub assembly: Assembly,
}

/// Where the layers and the upper are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assembly {
    /// One for each layer of the manifest, oldest first.
    pub layers: Vec<LayerSource>,
    /// What takes the writes.
    pub upper: UpperSource,
}

/// Where a layer is.
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
}

/// A text that is not a descriptor.
#[derive(Debug, thiserror::Error)]
pub enum InvalidDescriptor {
    /// It is not base64url.
    #[error("the descriptor is not base64url without padding: {0}")]
    Base64(#[from] base64::DecodeError),
    /// It is something else, or something more.
    #[error("the descriptor cannot be read: {0}")]
    Json(#[from] NotCanonical),
}

impl Descriptor {
    /// Longest text in bytes.
    pub const LIMIT: usize = SignedManifest::LIMIT + Assembly::LIMIT;

    /// Reads a descriptor as JSON. It need not be canonical: what is signed in it is written anew before
    /// its hash is computed.
    ///
    /// # Errors
    /// For more than [`Descriptor::LIMIT`] bytes, and whatever is not exactly a descriptor.
    pub fn read(bytes: &[u8]) -> Result<Self, InvalidDescriptor> {
        Ok(canonical::read(bytes, Self::LIMIT)?)
    }

    /// Reads a descriptor in base64url without padding, as a kernel's command line has it.
    ///
    /// # Errors
    /// As [`Descriptor::read`], and if it is not base64url.
    pub fn from_base64(text: &str) -> Result<Self, InvalidDescriptor> {
        Self::read(&URL_SAFE_NO_PAD.decode(text)?)
    }

    /// The text that [`Descriptor::read`] reads.
    ///
    /// # Errors
    /// Never in practice: every member has a JSON form.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        let assembly = serde_json::to_string(&self.assembly)?;
        Ok(format!(r#"{{"assembly":{assembly},"signed":{}}}"#, self.signed.to_canonical()))
    }
}

impl Assembly {
    /// Longest text in bytes: 500 layers with the longest names and salts.
    pub const LIMIT: usize = 1 << 20;

    /// All devices that are needed.
    pub fn queries(&self) -> impl Iterator<Item = &Query> {
        let upper = match &self.upper {
            UpperSource::Device(query) => Some(query),
            UpperSource::None | UpperSource::Tmpfs { .. } => None,
        };
        self.layers.iter().map(|layer| &layer.device).chain(upper)
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    fn descriptors() -> Vec<Descriptor> {
        let signed = fixtures::signed(&fixtures::manifest(2));
        let query = |serial: &str| Query::Serial(serial.parse().unwrap());
        let partition = Query::Partition { disk: Box::new(query("disk")), number: 2 };
        let layers = vec![
            LayerSource { device: query("l0"), claim: None },
            LayerSource { device: partition, claim: Some(fixtures::verity(6, 2)) },
        ];
        let uppers = [
            UpperSource::None,
            UpperSource::Tmpfs { size: Some(1 << 20) },
            UpperSource::Tmpfs { size: None },
            UpperSource::Device(query("upper")),
        ];
        let descriptor = |upper| Descriptor {
            signed: signed.clone(),
            assembly: Assembly { layers: layers.clone(), upper },
        };
        uppers.into_iter().map(descriptor).collect()
    }

    #[test]
    fn a_descriptor_is_read_as_it_is_written() {
        for descriptor in descriptors() {
            let text = descriptor.to_json().unwrap();
            assert_eq!(Descriptor::read(text.as_bytes()).unwrap(), descriptor);
            assert_eq!(Descriptor::from_base64(&URL_SAFE_NO_PAD.encode(&text)).unwrap(), descriptor);
            assert!(Descriptor::from_base64(&text).is_err());
        }
    }

    #[test]
    fn more_than_a_descriptor_is_refused() {
        let text = descriptors().remove(0).to_json().unwrap();
        for other in [
            format!("{text}x"),
            text.replace("\"assembly\":{", "\"assembly\":{\"options\":\"rw\","),
            text.replace("{\"serial\":\"l0\"}", "{\"serial\":\"l 0\"}"),
            text.replace("{\"serial\":\"l0\"}", "{\"serial\":\"l0\",\"path\":\"/dev/vda\"}"),
            text.replace("\"upper\":\"none\"", "\"upper\":\"host\""),
            format!("{text}{}", " ".repeat(Descriptor::LIMIT)),
        ] {
            assert_ne!(other, text);
            assert!(Descriptor::read(other.as_bytes()).is_err());
        }
    }
}
