//! Ed25519 keys in the files that `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` write.
//!
//! Format: PEM (RFC 7468) of PKCS #8 and SubjectPublicKeyInfo (RFC 8410). For this one algorithm both are
//! fixed bytes before the 32 of the key, so a reader of all of ASN.1 would only be more that can go wrong.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use nexuserofs_guest::manifest::{
    ImageHash, Manifest, PublicKey, Signature, SignatureBytes, Statement, UnixTime,
};
use nexuserofs_guest::word::Word;

/// Before a private key: version 0, the algorithm, and an octet string in an octet string.
const PRIVATE: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
/// Before a public key: the algorithm, and a bit string.
const PUBLIC: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];

/// A private key.
#[derive(Debug)]
pub struct Signer {
    key: SigningKey,
    public: PublicKey,
}

/// What a signer says about an image, besides which it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Grows with every release of the image.
    pub version: u64,
    /// What the image is called.
    pub name: Option<Word>,
    /// From when on it is not to be used any more.
    pub expires: Option<UnixTime>,
}

/// A text that is not a key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidKey {
    /// It is not a private key.
    #[error("it is no Ed25519 private key in PEM: make one with `openssl genpkey -algorithm ed25519`")]
    Private,
    /// It is not a public key.
    #[error(
        "it is no Ed25519 public key: give the PEM that `openssl pkey -pubout` writes, or the key in base64url"
    )]
    Public,
}

impl Signer {
    /// Reads a private key.
    ///
    /// # Errors
    /// If the text is anything else.
    pub fn read(pem: &str) -> Result<Self, InvalidKey> {
        let seed = decode("PRIVATE KEY", &PRIVATE, pem).ok_or(InvalidKey::Private)?;
        let key = SigningKey::from_bytes(&seed);
        let public = PublicKey::new(key.verifying_key().as_bytes()).ok_or(InvalidKey::Private)?;
        Ok(Self { key, public })
    }

    /// The key that checks what this one signs.
    #[must_use]
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    /// Signs that a manifest is what these claims say.
    #[must_use]
    pub fn sign(&self, manifest: &Manifest, claims: Claims) -> Signature {
        let Claims { version, name, expires } = claims;
        let image_hash: ImageHash = manifest.image_hash();
        let statement = Statement { image_hash, key_id: self.public.id(), version, name, expires };
        let signature = SignatureBytes(self.key.sign(&statement.message()).to_bytes());
        Signature { statement, signature }
    }
}

/// Reads a public key: PEM, or base64url as in policies.
///
/// # Errors
/// If the text is anything else.
pub fn public(text: &str) -> Result<PublicKey, InvalidKey> {
    let from_pem = || decode("PUBLIC KEY", &PUBLIC, text).and_then(|bytes| PublicKey::new(&bytes));
    text.trim().parse().ok().or_else(from_pem).ok_or(InvalidKey::Public)
}

/// The 32 bytes behind `prefix` in the one block of this label.
fn decode(label: &str, prefix: &[u8], pem: &str) -> Option<[u8; 32]> {
    let block = pem.trim().strip_prefix(&format!("-----BEGIN {label}-----"))?;
    let block = block.strip_suffix(&format!("-----END {label}-----"))?;
    let text: String = block.split_ascii_whitespace().collect();
    STANDARD.decode(text).ok()?.strip_prefix(prefix)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8410, section 10: a private key, and its public key.
    const PRIVATE_PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
        -----END PRIVATE KEY-----\n";
    const PUBLIC_PEM: &str = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
        -----END PUBLIC KEY-----\n";

    #[test]
    fn the_keys_of_the_standard_are_read_and_belong_together() {
        let signer = Signer::read(PRIVATE_PEM).unwrap();
        assert_eq!(public(PUBLIC_PEM), Ok(signer.public()));
        assert_eq!(public(&format!("{}\n", signer.public())), Ok(signer.public()));
    }

    #[test]
    fn other_texts_are_no_keys() {
        assert_eq!(Signer::read(PUBLIC_PEM).unwrap_err(), InvalidKey::Private);
        assert_eq!(public(PRIVATE_PEM), Err(InvalidKey::Public));
        for text in ["", "-----BEGIN PRIVATE KEY-----", &PRIVATE_PEM.replace("MC4C", "MC4D")] {
            assert_eq!(Signer::read(text).unwrap_err(), InvalidKey::Private, "{text}");
        }
    }
}
