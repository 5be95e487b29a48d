//! What a `DISCARD` or `WRITE_ZEROES` is about (`struct virtio_blk_discard_write_zeroes`, VIRTIO 1.3, 5.2.6).

use vm_memory::VolatileSlice;

use super::config_space::{MOST_DISCARD_SECTORS, MOST_DISCARD_SEGMENTS};
use super::device::Failure;
use super::pieces::gather;
use super::request::Kind;
use crate::image::extent::SECTOR;

/// Size of one in bytes: sector, number of sectors, flags.
const SIZE: usize = 16;

/// The flag that the space may be given back.
const UNMAP: u32 = 1;

/// A run of sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) sector: u64,
    pub(super) sectors: u32,
    /// Whether its space goes back to the host.
    pub(super) release: bool,
}

impl Segment {
    /// Its length in bytes.
    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.sectors) * SECTOR
    }

    fn parse(kind: Kind, bytes: &[u8; SIZE]) -> Result<Self, Failure> {
        let [sector @ .., _, _, _, _, _, _, _, _] = bytes;
        let [_, _, _, _, _, _, _, _, sectors @ .., _, _, _, _] = bytes;
        let [_, _, _, _, _, _, _, _, _, _, _, _, flags @ ..] = bytes;
        let release = match (kind, u32::from_le_bytes(*flags)) {
            // A discard has no flags; a driver that sets one wants something that nobody knows.
            (Kind::Discard, 0) | (Kind::WriteZeroes, UNMAP) => true,
            (Kind::WriteZeroes, 0) => false,
            _ => return Err(Failure::Unsupported),
        };
        let sectors = u32::from_le_bytes(*sectors);
        if sectors > MOST_DISCARD_SECTORS {
            return Err(Failure::Refused);
        }
        Ok(Self { sector: u64::from_le_bytes(*sector), sectors, release })
    }
}

/// Reads the segments of a request.
///
/// # Errors
/// If there are none or too many, or one has flags that are not known or too many sectors.
pub(super) fn parse(kind: Kind, data: &[VolatileSlice<'_>]) -> Result<Vec<Segment>, Failure> {
    // One byte more shows that there are too many.
    let mut bytes = [0; SIZE * MOST_DISCARD_SEGMENTS as usize + 1];
    let length = gather(data, &mut bytes);
    let (segments, rest) = bytes.get(..length).unwrap_or_default().as_chunks::<SIZE>();
    if segments.is_empty() || !rest.is_empty() {
        return Err(Failure::Refused);
    }
    segments.iter().map(|segment| Segment::parse(kind, segment)).collect()
}
