//! How much of an image is accepted.

use super::error::Error;

/// Budgets for one image. What exceeds one is refused.
///
/// They bound memory and work: an image of a few blocks can claim any number of entries, as several
/// inodes can name the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Inodes.
    pub max_inodes: u64,
    /// Bytes of metadata kept in memory, what the structures around them take included.
    pub max_metadata_bytes: u64,
}

impl Default for Limits {
    /// As many as a tar layer may have by default.
    fn default() -> Self {
        Self { max_inodes: 5_000_000, max_metadata_bytes: 1 << 30 }
    }
}

/// What an inode takes besides names and attributes, in bytes, rounded up.
pub(super) const INODE_COST: u64 = 320;
/// What a directory entry takes besides its name, in bytes, rounded up.
pub(super) const ENTRY_COST: u64 = 64;
/// What an extended attribute takes besides name and value, in bytes, rounded up.
pub(super) const XATTR_COST: u64 = 128;

/// What is left of the limits.
pub(super) struct Budget {
    limits: Limits,
    inodes: u64,
    bytes: u64,
}

impl Budget {
    pub(super) const fn new(limits: Limits) -> Self {
        Self { limits, inodes: 0, bytes: 0 }
    }

    /// What is left of both.
    pub(super) const fn left(&self) -> Limits {
        let Limits { max_inodes, max_metadata_bytes } = self.limits;
        Limits {
            max_inodes: max_inodes.saturating_sub(self.inodes),
            max_metadata_bytes: max_metadata_bytes.saturating_sub(self.bytes),
        }
    }

    /// Counts one more inode.
    pub(super) fn inode(&mut self) -> Result<(), Error> {
        self.inodes += 1;
        if self.inodes > self.limits.max_inodes {
            return Err(Error::TooMuch { what: "inodes", limit: self.limits.max_inodes });
        }
        self.bytes(INODE_COST)
    }

    /// Counts bytes of metadata, before anything is reserved for them.
    pub(super) fn bytes(&mut self, bytes: u64) -> Result<(), Error> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.limits.max_metadata_bytes {
            let limit = self.limits.max_metadata_bytes;
            return Err(Error::TooMuch { what: "bytes of metadata", limit });
        }
        Ok(())
    }
}
