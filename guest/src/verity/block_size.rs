//! The size of a block that is hashed, or of one that holds hashes.

use serde::{Deserialize, Serialize};

/// A block size in bytes: a power of two from 512 to 4096. The kernel takes none that is larger than a
/// page, and 4096 bytes are a page on every machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "u32", try_from = "u32")]
pub struct BlockSize(u32);

/// A number that is no block size.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{bytes} is not a block size for dm-verity: expected 512, 1024, 2048 or 4096 bytes")]
pub struct InvalidBlockSize {
    bytes: u32,
}

impl BlockSize {
    /// 4096 bytes, as in all layers of image layout v1.
    pub const PAGE: Self = Self(4096);
    /// 512 bytes, as in images that are indices of tar files.
    pub const SECTOR: Self = Self(512);

    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        self.0
    }
}

impl From<BlockSize> for u32 {
    fn from(size: BlockSize) -> Self {
        size.0
    }
}

impl TryFrom<u32> for BlockSize {
    type Error = InvalidBlockSize;

    fn try_from(bytes: u32) -> Result<Self, Self::Error> {
        let is_valid = bytes.is_power_of_two() && (512..=4096).contains(&bytes);
        if is_valid { Ok(Self(bytes)) } else { Err(InvalidBlockSize { bytes }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_two_up_to_a_page_are_block_sizes() {
        let valid: Vec<u32> = (0..=8192).filter(|bytes| BlockSize::try_from(*bytes).is_ok()).collect();
        assert_eq!(valid, [512, 1024, 2048, 4096]);
    }
}
