//! Checksums of metadata: CRC-32C, which ext4 keeps as the register stands, not inverted at the end.

/// What checksums of a file system, or of one of its inodes, go on from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seed(u32);

impl Seed {
    /// The file system's.
    pub(super) fn of(uuid: &[u8; 16]) -> Self {
        Self(raw(uuid))
    }

    /// That of an inode of generation 0, and of what only it has.
    pub(super) fn inode(self, number: u32) -> Self {
        Self(self.over(&[&number.to_le_bytes(), &0_u32.to_le_bytes()]))
    }

    /// The checksum of these bytes, one part after the other.
    pub(super) fn over(self, parts: &[&[u8]]) -> u32 {
        parts.iter().fold(self.0, |state, part| !crc32c::crc32c_append(!state, part))
    }
}

/// The checksum of the superblock: it has no seed, as it has the UUID.
pub(super) fn raw(bytes: &[u8]) -> u32 {
    !crc32c::crc32c(bytes)
}
