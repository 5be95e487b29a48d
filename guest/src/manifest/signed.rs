//! A manifest and what its signers say about it, in one document.

use serde::Deserialize;

use super::{Manifest, SignatureBytes, Statement};
use crate::canonical::{Canonical, Json};

/// A manifest, with signatures or without. That they are right is for a policy to find out.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedManifest {
    /// The list of layers.
    pub manifest: Manifest,
    /// Whoever signed it. At most [`SignedManifest::MOST_SIGNATURES`] are looked at.
    #[serde(default)]
    pub signatures: Vec<Signature>,
}

/// A statement and its signature.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// What is said.
    pub statement: Statement,
    /// The signature of [`Statement::message`].
    pub signature: SignatureBytes,
}

impl SignedManifest {
    /// As many signatures are held against the policy's keys; each takes a tenth of a millisecond.
    pub const MOST_SIGNATURES: usize = 16;
}

impl From<Manifest> for SignedManifest {
    /// Without signatures, for policies that name image hashes.
    fn from(manifest: Manifest) -> Self {
        Self { manifest, signatures: Vec::new() }
    }
}

impl Canonical for SignedManifest {
    const LIMIT: usize = Manifest::LIMIT + Self::MOST_SIGNATURES * Statement::LIMIT;

    fn json(&self) -> Json {
        let signatures = (!self.signatures.is_empty())
            .then(|| Json::Array(self.signatures.iter().map(Signature::json).collect()));
        Json::object([("manifest", Some(self.manifest.json())), ("signatures", signatures)])
    }
}

impl Signature {
    fn json(&self) -> Json {
        Json::object([
            ("signature", Some(Json::text(String::from(self.signature)))),
            ("statement", Some(self.statement.json())),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn bytes_are_the_golden_ones_and_are_read_back() {
        let signed = fixtures::signed(&fixtures::manifest(2));
        let text = signed.to_canonical();
        assert_eq!(text, include_str!("golden/signed.json").trim_end());
        assert_eq!(SignedManifest::from_canonical(text.as_bytes()).unwrap(), signed);
        let unsigned = SignedManifest::from(fixtures::manifest(1));
        assert_eq!(SignedManifest::from_canonical(unsigned.to_canonical().as_bytes()).unwrap(), unsigned);
    }
}
