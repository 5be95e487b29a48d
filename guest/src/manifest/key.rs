//! Who signs manifests.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::verity::hex;

/// An Ed25519 public key (RFC 8032). As a text it is its 32 bytes in base64url without padding.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PublicKey(VerifyingKey);

/// Which key: the first 16 bytes of the key's SHA-256, as 32 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct KeyId([u8; 16]);

/// The 64 bytes of an Ed25519 signature. As a text they are base64url without padding.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct SignatureBytes(pub [u8; 64]);

/// A text that is no key, and no key's id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is no {what}")]
pub struct InvalidKey {
    text: String,
    what: &'static str,
}

/// A text that is no signature.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is no Ed25519 signature: expected 64 bytes in base64url, 86 characters without padding")]
pub struct InvalidSignature {
    text: String,
}

impl PublicKey {
    /// A key from its bytes. None if they are no point of the curve, or one of the few for which anyone can
    /// make signatures.
    #[must_use]
    pub fn new(bytes: &[u8; 32]) -> Option<Self> {
        VerifyingKey::from_bytes(bytes).ok().filter(|key| !key.is_weak()).map(Self)
    }

    /// Which key this is.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let digest = Digest::of(self.0.as_bytes());
        let mut id = [0; 16];
        id.iter_mut().zip(digest.as_bytes()).for_each(|(to, from)| *to = *from);
        KeyId(id)
    }

    /// Whether this key made this signature of this message; only the one form of a signature counts.
    #[must_use]
    pub fn made(&self, signature: &SignatureBytes, message: &[u8]) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        self.0.verify_strict(message, &signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let what = "Ed25519 public key: expected 32 bytes in base64url, 43 characters without padding";
        let invalid = || InvalidKey { text: text.to_owned(), what };
        decode(text).as_ref().and_then(Self::new).ok_or_else(invalid)
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for PublicKey {
    type Error = InvalidKey;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for KeyId {
    type Error = InvalidKey;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = hex::decode(&text).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(InvalidKey { text, what: "id of a key: expected 32 lower-case hex digits" })
    }
}

impl fmt::Debug for SignatureBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from(*self))
    }
}

impl From<SignatureBytes> for String {
    fn from(signature: SignatureBytes) -> Self {
        URL_SAFE_NO_PAD.encode(signature.0)
    }
}

impl TryFrom<String> for SignatureBytes {
    type Error = InvalidSignature;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        decode(&text).map(Self).ok_or(InvalidSignature { text })
    }
}

fn decode<const LENGTH: usize>(text: &str) -> Option<[u8; LENGTH]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, section 7.1, test 2: a message of one byte.
    const KEY: &str = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
    const SIGNATURE: &str = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";

    fn bytes<const LENGTH: usize>(digits: &str) -> [u8; LENGTH] {
        hex::decode(digits).unwrap().try_into().unwrap()
    }

    #[test]
    fn the_signature_of_the_standard_is_taken_and_a_changed_one_is_not() {
        let key = PublicKey::new(&bytes(KEY)).unwrap();
        let signature = SignatureBytes(bytes(SIGNATURE));
        assert!(key.made(&signature, &[0x72]));
        assert!(!key.made(&signature, &[0x73]));
        for at in 0..64 {
            let mut changed = signature;
            changed.0[at] ^= 1;
            assert!(!key.made(&changed, &[0x72]), "byte {at}");
        }
    }

    #[test]
    fn texts_are_read_as_they_are_written() {
        let key = PublicKey::new(&bytes(KEY)).unwrap();
        assert_eq!(key.to_string().parse(), Ok(key));
        let signature = SignatureBytes(bytes(SIGNATURE));
        assert_eq!(SignatureBytes::try_from(String::from(signature)), Ok(signature));
        assert_eq!(KeyId::try_from(String::from(key.id())), Ok(key.id()));
        assert!(format!("{key}=").parse::<PublicKey>().is_err());
        assert!(KEY.parse::<PublicKey>().is_err());
    }

    #[test]
    fn keys_for_which_anyone_signs_are_refused() {
        // The neutral element, and a point of order 4.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        assert_eq!(PublicKey::new(&neutral), None);
        assert_eq!(PublicKey::new(&[0; 32]), None);
    }
}
