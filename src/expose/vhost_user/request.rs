//! A descriptor chain as a request (VIRTIO 1.3, 5.2.6).
//!
//! How a driver cuts a request into descriptors is its own affair (2.7.4): the header is the first 16 bytes of what
//! we may read, the status the last byte of what we may write, and the data is what is left.

use std::ops::Range;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
    VIRTIO_BLK_T_WRITE_ZEROES,
};
use virtio_queue::DescriptorChain;
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap, VolatileSlice};

use super::pieces::{advanced, gather};

/// Size of the header in bytes: type, a reserved number, sector.
const HEADER: usize = 16;

/// What a guest asks for.
#[derive(Debug)]
pub(super) struct Request<'m> {
    pub(super) kind: Kind,
    /// Where on the disk, in sectors.
    pub(super) sector: u64,
    /// The pieces of data, as places in the list that they were put into.
    pub(super) data: Range<usize>,
    /// Bytes of data.
    pub(super) length: u64,
    /// Where the answer goes: one byte.
    pub(super) status: VolatileSlice<'m>,
}

/// The kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    Flush,
    GetId,
    Discard,
    WriteZeroes,
    Unknown,
}

/// A descriptor chain that is no request. Nothing can be answered but that it was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Kind {
    const fn of(number: u32) -> Self {
        match number {
            VIRTIO_BLK_T_IN => Self::Read,
            VIRTIO_BLK_T_OUT => Self::Write,
            VIRTIO_BLK_T_FLUSH => Self::Flush,
            VIRTIO_BLK_T_GET_ID => Self::GetId,
            VIRTIO_BLK_T_DISCARD => Self::Discard,
            VIRTIO_BLK_T_WRITE_ZEROES => Self::WriteZeroes,
            _ => Self::Unknown,
        }
    }

    /// Whether the data goes to the guest.
    const fn is_answered_with_data(self) -> bool {
        matches!(self, Self::Read | Self::GetId)
    }
}

impl<'m> Request<'m> {
    /// Reads a chain of descriptors, whose pieces of memory are put behind those in `pieces`.
    ///
    /// # Errors
    /// If the chain has no end, names memory that the guest does not have, or lacks header or status.
    pub(super) fn parse(
        chain: DescriptorChain<&'m GuestMemoryMmap>,
        memory: &'m GuestMemoryMmap,
        pieces: &mut Vec<VolatileSlice<'m>>,
    ) -> Result<Self, Malformed> {
        let start = pieces.len();
        let parsed = Self::parse_behind(start, chain, memory, pieces);
        if parsed.is_err() {
            pieces.truncate(start);
        }
        parsed
    }

    fn parse_behind(
        start: usize,
        chain: DescriptorChain<&'m GuestMemoryMmap>,
        memory: &'m GuestMemoryMmap,
        pieces: &mut Vec<VolatileSlice<'m>>,
    ) -> Result<Self, Malformed> {
        let writable = collect(chain, memory, pieces)?;
        let status = take_status(writable, pieces)?;
        let readable = pieces.get_mut(start..writable).ok_or(Malformed)?;
        let mut header = [0; HEADER];
        if gather(readable, &mut header) < HEADER {
            return Err(Malformed);
        }
        let behind_header = advanced(readable, HEADER).map_err(|_| Malformed)?.len();
        let kind = Kind::of(u32::from_le_bytes(part(&header, 0)));
        let sector = u64::from_le_bytes(part(&header, 8));
        let data = if kind.is_answered_with_data() {
            writable..pieces.len()
        } else {
            writable - behind_header..writable
        };
        let lengths = pieces.get(data.clone()).unwrap_or_default().iter();
        let length = lengths.map(|piece| piece.len() as u64).sum();
        Ok(Self { kind, sector, data, length, status })
    }
}

/// Puts the memory that a chain names into `pieces`, and returns where that begins which may be written.
fn collect<'m>(
    chain: DescriptorChain<&'m GuestMemoryMmap>,
    memory: &'m GuestMemoryMmap,
    pieces: &mut Vec<VolatileSlice<'m>>,
) -> Result<usize, Malformed> {
    let mut writable = None;
    // The iterator ends early without a word where a chain is wrong: its last descriptor has a successor then.
    let mut has_next = true;
    for descriptor in chain {
        has_next = descriptor.has_next();
        match (descriptor.is_write_only(), writable) {
            (true, None) => writable = Some(pieces.len()),
            (false, Some(_)) => return Err(Malformed),
            _ => {}
        }
        for piece in memory.get_slices(descriptor.addr(), descriptor.len() as usize) {
            pieces.push(piece.map_err(|_| Malformed)?);
        }
    }
    if has_next { Err(Malformed) } else { writable.ok_or(Malformed) }
}

/// Takes the last byte away.
fn take_status<'m>(
    writable: usize,
    pieces: &mut Vec<VolatileSlice<'m>>,
) -> Result<VolatileSlice<'m>, Malformed> {
    let last = pieces.get(writable..).and_then(<[_]>::last).ok_or(Malformed)?;
    let before = last.len().checked_sub(1).ok_or(Malformed)?;
    let (data, status) = last.split_at(before).map_err(|_| Malformed)?;
    pieces.pop();
    if before > 0 {
        pieces.push(data);
    }
    Ok(status)
}

/// `N` bytes of the header at a fixed offset, which lies within it.
fn part<const N: usize>(header: &[u8; HEADER], offset: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[offset..offset + N]);
    bytes
}
