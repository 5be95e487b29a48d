//! The description of a root file system.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::Assembly;
use crate::canonical::{self, Canonical, NotCanonical};
use crate::manifest::SignedManifest;

/// What to make a root file system of.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Descriptor {
    /// The list of the layers.
    pub signed: SignedManifest,
    /// Where they are.
    pub assembly: Assembly,
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

#[cfg(test)]
mod tests {
    use super::super::{ImageSource, LayerSource, UpperSource};
    use super::*;
    use crate::devices::Query;
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
            UpperSource::Encrypted(query("upper")),
        ];
        let merged = LayerSource { device: query("image"), claim: Some(fixtures::verity(6, 2)) };
        let images = [ImageSource::Layers(layers), ImageSource::Merged(merged)];
        let descriptor = |(image, upper): (&ImageSource, &UpperSource)| Descriptor {
            signed: signed.clone(),
            assembly: Assembly { image: image.clone(), upper: upper.clone() },
        };
        images
            .iter()
            .flat_map(|image| uppers.iter().map(move |upper| (image, upper)))
            .map(descriptor)
            .collect()
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
            text.replace("\"layers\":[{", "\"merged\":{\"device\":{\"serial\":\"m\"}},\"layers\":[{"),
            text.replace("\"layers\":[{\"device\"", "\"disks\":[{\"device\""),
            format!("{text}{}", " ".repeat(Descriptor::LIMIT)),
        ] {
            assert_ne!(other, text);
            assert!(Descriptor::read(other.as_bytes()).is_err());
        }
    }
}
