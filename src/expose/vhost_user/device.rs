//! A disk as a virtio device: requests are carried out here.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use rustix::io::Errno;
use virtio_bindings::virtio_blk::{VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP};
use vm_memory::{GuestMemoryMmap, VolatileSlice};

use super::counters::{Counters, Operations};
use super::disk::{Block, Contents, Damaged, Disk};
use super::pieces::scatter;
use super::readers::{Readers, Shared};
use super::request::{Kind, Request};
use super::segments::{self, Segment};
use super::serial::{SERIAL_BYTES, Serial};
use crate::image::extent::SECTOR;

/// A disk with what else a guest is told.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) disk: Disk,
    pub(super) serial: Serial,
    pub(super) counters: Arc<Counters>,
    readers: Readers,
}

/// Pieces of the guest's memory: those of all requests that were read from a queue, and room to cut some of them.
#[derive(Debug, Default)]
pub(super) struct Memory<'m> {
    pub(super) pieces: Vec<VolatileSlice<'m>>,
    pub(super) scratch: Vec<VolatileSlice<'m>>,
}

/// Why a request was not carried out. The guest hears two of it.
#[derive(Debug)]
pub(super) enum Failure {
    /// What was asked for is not possible at all.
    Unsupported,
    /// A request that is wrong: outside the disk, not in sectors, for a disk that cannot be written.
    Refused,
    /// The file.
    File(io::Error),
}

/// A request that was carried out.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    /// Bytes of the disk that it was about.
    bytes: u64,
    /// Bytes that were put into the guest's memory, without the status.
    written: u64,
}

impl Device {
    pub(super) fn new(disk: Disk, serial: Serial) -> Self {
        Self { disk, serial, counters: Arc::default(), readers: Readers::new() }
    }

    /// Carries out a request, puts the status where it belongs, and returns how many bytes of the guest's memory were
    /// written.
    ///
    /// `waiting` is called before something takes long.
    pub(super) fn answer<'m>(
        &self,
        request: &Request<'m>,
        memory: &mut Memory<'m>,
        waiting: &mut dyn FnMut(),
    ) -> u32 {
        let start = Instant::now();
        let result = self.execute(request, memory, waiting);
        self.conclude(request, result, start)
    }

    /// Gives out a read to whoever has time for a part of it, if that is worth it. It is to be finished in its turn.
    pub(super) fn share(
        &self,
        request: &Request<'_>,
        guest: &Arc<GuestMemoryMmap>,
        memory: &Memory<'_>,
    ) -> Option<Shared> {
        let Contents::Image(image) = self.disk.contents() else { return None };
        let range = self.range(request.sector, request.length).ok()?;
        self.readers.share(image, guest, range, memory.pieces.get(request.data.clone())?)
    }

    /// Finishes a read that was given out, and concludes it as [`Device::answer`] does.
    pub(super) fn finish(&self, request: &Request<'_>, shared: Shared, waiting: &mut dyn FnMut()) -> u32 {
        let begun = shared.begun;
        let done = Done { bytes: request.length, written: request.length };
        let result = shared.finish(waiting).map(|()| done).map_err(Failure::from);
        self.conclude(request, result, begun)
    }

    /// Puts the status where it belongs, counts, and returns how many bytes of the guest's memory were written.
    fn conclude(&self, request: &Request<'_>, result: Result<Done, Failure>, begun: Instant) -> u32 {
        let (status, done) = match result {
            Ok(done) => (VIRTIO_BLK_S_OK, done),
            Err(failure) => (self.status_of(request, &failure), Done::default()),
        };
        request.status.copy_from(&[status as u8]);
        let is_done = status == VIRTIO_BLK_S_OK;
        self.operations(request.kind).count(done.bytes, is_done, begun.elapsed());
        u32::try_from(done.written + 1).unwrap_or(u32::MAX)
    }

    /// Asks for what a request will read, if it does.
    pub(super) fn prefetch(&self, request: &Request<'_>) {
        if request.kind == Kind::Read
            && let Ok(range) = self.range(request.sector, request.length)
        {
            match self.disk.contents() {
                Contents::Image(image) => image.prefetch(range),
                Contents::Block(block) => block.prefetch(range),
            }
        }
    }

    fn execute<'m>(
        &self,
        request: &Request<'m>,
        memory: &mut Memory<'m>,
        waiting: &mut dyn FnMut(),
    ) -> Result<Done, Failure> {
        let data = memory.pieces.get_mut(request.data.clone()).unwrap_or_default();
        match (request.kind, self.disk.contents()) {
            (Kind::Read, contents) => {
                let range = self.range(request.sector, request.length)?;
                match contents {
                    Contents::Image(image) => image.read(range, data, &mut memory.scratch, waiting)?,
                    Contents::Block(block) => block.read(range.start, data, waiting)?,
                }
                Ok(Done { bytes: request.length, written: request.length })
            }
            (Kind::Write, Contents::Block(block)) => {
                block.write(self.range(request.sector, request.length)?.start, data)?;
                Ok(Done { bytes: request.length, written: 0 })
            }
            (Kind::Flush, Contents::Block(block)) => {
                waiting();
                block.flush()?;
                Ok(Done::default())
            }
            (Kind::Discard | Kind::WriteZeroes, Contents::Block(block)) => {
                let bytes = self.release(block, request.kind, data)?;
                Ok(Done { bytes, written: 0 })
            }
            (Kind::GetId, _) => {
                scatter(&self.serial.bytes(), data);
                Ok(Done { bytes: 0, written: request.length.min(SERIAL_BYTES as u64) })
            }
            // Nothing is ever written, so everything is on the disk.
            (Kind::Flush, Contents::Image(_)) => Ok(Done::default()),
            (Kind::Write | Kind::Discard | Kind::WriteZeroes, Contents::Image(_)) => Err(Failure::Refused),
            (Kind::Unknown, _) => Err(Failure::Unsupported),
        }
    }

    /// Carries out the segments of a `DISCARD` or `WRITE_ZEROES`, all of which are looked at first.
    fn release(&self, block: &Block, kind: Kind, data: &[VolatileSlice<'_>]) -> Result<u64, Failure> {
        let segments = segments::parse(kind, data)?;
        let ranges = segments.iter().map(|segment| self.range(segment.sector, segment.bytes()));
        let ranges = ranges.collect::<Result<Vec<_>, _>>()?;
        for (segment, range) in segments.iter().zip(ranges) {
            match segment {
                _ if range.is_empty() => {}
                Segment { release: true, .. } => block.discard(range)?,
                Segment { release: false, .. } => block.zero(range)?,
            }
        }
        Ok(segments.iter().map(Segment::bytes).sum())
    }

    /// The bytes of the disk from a sector on.
    fn range(&self, sector: u64, length: u64) -> Result<Range<u64>, Failure> {
        let start = sector.checked_mul(SECTOR).ok_or(Failure::Refused)?;
        let end = start.checked_add(length).ok_or(Failure::Refused)?;
        let is_inside = end <= self.disk.sectors() * SECTOR && length.is_multiple_of(SECTOR);
        if is_inside { Ok(start..end) } else { Err(Failure::Refused) }
    }

    fn operations(&self, kind: Kind) -> &Operations {
        match kind {
            Kind::Read => &self.counters.reads,
            Kind::Write => &self.counters.writes,
            Kind::Flush => &self.counters.flushes,
            Kind::Discard | Kind::WriteZeroes => &self.counters.discards,
            Kind::GetId | Kind::Unknown => &self.counters.others,
        }
    }

    /// What the guest hears of a failure, and the operator of those that are not the guest's own.
    fn status_of(&self, request: &Request<'_>, failure: &Failure) -> u32 {
        match failure {
            Failure::Unsupported => return VIRTIO_BLK_S_UNSUPP,
            Failure::Refused => {}
            Failure::File(error) if is_damage(error) => {
                self.counters.damaged.fetch_add(1, Ordering::Relaxed);
            }
            Failure::File(error) if is_of_the_guest(error) => {}
            Failure::File(error) => {
                let (kind, serial) = (request.kind, &self.serial);
                tracing::error!(%serial, ?kind, sector = request.sector, %error, "a request of a guest failed");
            }
        }
        VIRTIO_BLK_S_IOERR
    }
}

/// Whether it was reported already.
fn is_damage(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|error| error.is::<Damaged>())
}

/// Whether memory is not there that the guest says it has.
fn is_of_the_guest(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::FAULT)
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::Unsupported { Self::Unsupported } else { Self::File(error) }
    }
}
