//! The writable block of a snapshot.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};
use rustix::io::Errno;
use vm_memory::VolatileSlice;

use super::fill::fill;
use crate::expose::vhost_user::Error;
use crate::expose::vhost_user::pieces::advanced;
use crate::store;
use crate::sys::guest_memory::write_at;
use crate::sys::locks;

/// Bytes of zeros that are written at a time where the file system cannot do better.
const ZEROS_SIZE: u64 = 1 << 16;

/// A file that a guest reads and writes.
#[derive(Debug)]
pub(in crate::expose::vhost_user) struct Block {
    file: File,
}

impl Block {
    /// Takes the block for a guest.
    pub(super) fn lock(file: File, path: PathBuf) -> Result<Self, Error> {
        // Whoever looks whether a block is in use meets this lock; it conflicts with that of another monitor too.
        match locks::take(&file).map_err(store::Error::io("lock", &path))? {
            locks::Taken::Now => Ok(Self { file }),
            locks::Taken::ByAnother => Err(Error::InUse { path }),
        }
    }

    /// Fills `pieces`, which are as long as the range.
    pub(in crate::expose::vhost_user) fn read(
        &self,
        offset: u64,
        pieces: &mut [VolatileSlice<'_>],
        waiting: &mut dyn FnMut(),
    ) -> io::Result<()> {
        fill(&self.file, offset, pieces, waiting)
    }

    pub(in crate::expose::vhost_user) fn prefetch(&self, range: Range<u64>) {
        // As for an image, advice only.
        let length = range.end - range.start;
        let _ = fadvise(&self.file, range.start, length.try_into().ok(), Advice::WillNeed);
    }

    /// Writes all `pieces`; they are on the disk after a [`Block::flush`].
    pub(in crate::expose::vhost_user) fn write(
        &self,
        offset: u64,
        pieces: &mut [VolatileSlice<'_>],
    ) -> io::Result<()> {
        let (mut rest, mut offset) = (pieces, offset);
        while !rest.is_empty() {
            let bytes = write_at(&self.file, offset, rest)?;
            if bytes == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            rest = advanced(rest, bytes)?;
            offset += bytes as u64;
        }
        Ok(())
    }

    /// Everything that was written is on the disk when this returns.
    pub(in crate::expose::vhost_user) fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Gives the space of a range back to the host. It reads as zeros then.
    pub(in crate::expose::vhost_user) fn discard(&self, range: Range<u64>) -> io::Result<()> {
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(fallocate(&self.file, mode, range.start, range.end - range.start)?)
    }

    /// Makes a range read as zeros. Its space stays reserved.
    pub(in crate::expose::vhost_user) fn zero(&self, range: Range<u64>) -> io::Result<()> {
        let mode = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
        match fallocate(&self.file, mode, range.start, range.end - range.start) {
            Err(Errno::OPNOTSUPP) => self.write_zeros(range),
            done => Ok(done?),
        }
    }

    fn write_zeros(&self, range: Range<u64>) -> io::Result<()> {
        let zeros = vec![0; ZEROS_SIZE as usize];
        let mut offset = range.start;
        while offset < range.end {
            let now = (range.end - offset).min(ZEROS_SIZE);
            self.file.write_all_at(zeros.get(..now as usize).unwrap_or_default(), offset)?;
            offset += now;
        }
        Ok(())
    }
}
