//! A request's data as pieces of the guest's memory.

use std::io;

use vm_memory::{
    Address, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, VolatileSlice,
};

/// A page of zeros to copy from.
static ZEROS: [u8; 4096] = [0; 4096];

/// Takes pieces from the front of others, for one part of a request after the other.
#[derive(Debug)]
pub(super) struct Cursor<'a, 'm> {
    rest: &'a [VolatileSlice<'m>],
    /// Bytes of the first of them that were taken already.
    taken: usize,
}

impl<'a, 'm> Cursor<'a, 'm> {
    pub(super) const fn new(pieces: &'a [VolatileSlice<'m>]) -> Self {
        Self { rest: pieces, taken: 0 }
    }

    /// Puts the next `length` bytes in place of what is in `into`.
    ///
    /// # Errors
    /// If there are not so many.
    pub(super) fn take(&mut self, length: u64, into: &mut Vec<VolatileSlice<'m>>) -> io::Result<()> {
        into.clear();
        let mut missing = usize::try_from(length).map_err(|_| too_short())?;
        while missing > 0 {
            let (first, others) = self.rest.split_first().ok_or_else(too_short)?;
            let here = (first.len() - self.taken).min(missing);
            into.push(first.subslice(self.taken, here).map_err(io::Error::other)?);
            missing -= here;
            self.taken += here;
            if self.taken == first.len() {
                (self.rest, self.taken) = (others, 0);
            }
        }
        Ok(())
    }
}

/// What is left of these pieces behind their first `bytes` bytes, which they have.
pub(super) fn advanced<'a, 'm>(
    pieces: &'a mut [VolatileSlice<'m>],
    bytes: usize,
) -> io::Result<&'a mut [VolatileSlice<'m>]> {
    let mut skip = bytes;
    let whole = pieces.iter().take_while(|piece| {
        let is_skipped = piece.len() <= skip;
        skip -= if is_skipped { piece.len() } else { 0 };
        is_skipped
    });
    let whole = whole.count();
    let rest = pieces.get_mut(whole..).unwrap_or_default();
    match rest.first_mut() {
        Some(first) => *first = first.offset(skip).map_err(io::Error::other)?,
        None if skip > 0 => return Err(too_short()),
        None => {}
    }
    Ok(rest)
}

/// Copies `bytes` into the pieces, as far as both go.
pub(super) fn scatter(bytes: &[u8], pieces: &[VolatileSlice<'_>]) {
    let mut rest = bytes;
    for piece in pieces {
        let (now, later) = rest.split_at(rest.len().min(piece.len()));
        piece.copy_from(now);
        rest = later;
    }
}

/// Copies the pieces into `bytes`, as far as both go, and returns how many bytes that were.
pub(super) fn gather(pieces: &[VolatileSlice<'_>], bytes: &mut [u8]) -> usize {
    let mut filled = 0;
    for piece in pieces {
        filled += bytes.get_mut(filled..).map_or(0, |rest| piece.copy_to(rest));
    }
    filled
}

/// Fills the pieces with zeros.
pub(super) fn zero(pieces: &[VolatileSlice<'_>]) {
    for piece in pieces {
        let mut at = 0;
        while let Ok(rest) = piece.offset(at)
            && !rest.is_empty()
        {
            rest.copy_from(&ZEROS[..rest.len().min(ZEROS.len())]);
            at += rest.len().min(ZEROS.len());
        }
    }
}

fn too_short() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "the request has less room than data")
}

/// Where in the guest's memory a piece of it lies.
pub(super) fn place(memory: &GuestMemoryMmap, piece: &VolatileSlice<'_>) -> Option<(GuestAddress, usize)> {
    let start = piece.ptr_guard().as_ptr() as usize;
    let address = memory.iter().find_map(|region| {
        let offset = start.checked_sub(region.as_ptr() as usize)? as u64;
        (offset < region.len()).then(|| region.start_addr().checked_add(offset)).flatten()
    });
    Some((address?, piece.len()))
}
