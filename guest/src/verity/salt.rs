//! The salt that is hashed before each block.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::hex;

/// At most 256 bytes, the room that a superblock has for a salt. None is a salt too.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Salt(Vec<u8>);

/// Something that is no salt.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a salt for dm-verity has at most 256 bytes, as lower-case hex digits; this one is {text:?}")]
pub struct InvalidSalt {
    text: String,
}

/// The longest salt, in bytes.
const LONGEST: usize = 256;

impl Salt {
    /// 32 zero bytes: the salt of image layout v1, and containerd's default.
    #[must_use]
    pub fn zeros() -> Self {
        Self(vec![0; 32])
    }

    /// A salt of these bytes.
    ///
    /// # Errors
    /// For more than 256 bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, InvalidSalt> {
        if bytes.len() > LONGEST {
            return Err(InvalidSalt { text: hex::encode(bytes) });
        }
        Ok(Self(bytes.to_vec()))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The hex digits; none for no salt.
    #[must_use]
    pub fn hex(&self) -> String {
        hex::encode(&self.0)
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Salt({})", self.hex())
    }
}

impl From<Salt> for String {
    fn from(salt: Salt) -> Self {
        salt.hex()
    }
}

impl TryFrom<String> for Salt {
    type Error = InvalidSalt;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match hex::decode(&text).filter(|bytes| bytes.len() <= LONGEST) {
            Some(bytes) => Ok(Self(bytes)),
            None => Err(InvalidSalt { text }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn salts_of_up_to_256_bytes_are_read_as_they_are_written() {
        for length in [0, 1, 32, 256] {
            let salt = Salt::new(&vec![0x5a; length]).unwrap();
            assert_eq!(Salt::try_from(salt.hex()), Ok(salt));
        }
        assert!(Salt::new(&[0; 257]).is_err());
        assert!(Salt::try_from("00".repeat(257)).is_err());
        assert!(Salt::try_from("-".to_owned()).is_err());
    }
}
