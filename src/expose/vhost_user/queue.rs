//! Everything that a guest put into one queue, in its order.
//!
//! Requests are completed one after the other, in the order in which they came, so the used ring says at any moment
//! which were carried out: whoever goes on with a queue whose exporter was killed starts at the first that is not
//! there. `docs/decisions/requests-in-order.md` says what hangs on that.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use virtio_queue::{Error, Queue, QueueOwnedT, QueueT};
use vm_memory::GuestMemoryMmap;

use super::device::{Device, Memory};
use super::readers::Shared;
use super::request::{Kind, Malformed, Request};

/// A batch with so many pieces of memory takes no more requests. One request has at most 65536, so what a batch takes of
/// our memory has a bound, whatever tables a hostile guest lays out.
const ENOUGH_PIECES: usize = 1 << 14;

/// A read of so many bytes is large.
const LARGE: u64 = 1 << 16;

/// So many bytes of large reads are given out: one thread is busy with them for a fifth of a millisecond. A guest that has
/// one read in flight is better served by that thread alone where the processors have other work.
const ENOUGH_TOGETHER: u64 = 1 << 21;

/// A request, or what was in its place.
struct Entry<'m> {
    head: u16,
    request: Result<Request<'m>, Malformed>,
}

impl<'m> Entry<'m> {
    fn large_read(&self) -> Option<&Request<'m>> {
        let request = self.request.as_ref().ok();
        request.filter(|request| request.kind == Kind::Read && request.length >= LARGE)
    }
}

/// A queue, held by one thread, and the way to its driver.
pub(super) trait Ring {
    fn queue(&mut self) -> &mut Queue;
    /// Wakes the driver.
    fn notify(&self);
}

/// Answers what is in a queue now, and returns how many requests that were. The driver is woken if it asked for that, and
/// need not notify us of more.
///
/// # Errors
/// If the rings are not in the guest's memory, or say what cannot be. The queue is of no use then.
pub(super) fn answer_batch(
    ring: &mut dyn Ring,
    memory: &GuestMemoryMmap,
    device: &Device,
) -> Result<usize, Error> {
    ring.queue().disable_notification(memory)?;
    let mut pieces = Memory::default();
    let mut batch = Vec::new();
    for chain in ring.queue().iter(memory)? {
        let head = chain.head_index();
        batch.push(Entry { head, request: Request::parse(chain, memory, &mut pieces.pieces) });
        if pieces.pieces.len() >= ENOUGH_PIECES {
            break;
        }
    }
    answer_all(ring, memory, device, &batch, &mut pieces)?;
    Ok(batch.len())
}

/// Whether a driver put something into a queue that was not read yet.
pub(super) fn has_requests(queue: &Queue, memory: &GuestMemoryMmap) -> Result<bool, Error> {
    Ok(queue.avail_idx(memory, Ordering::Acquire)?.0 != queue.next_avail())
}

fn answer_all<'m>(
    ring: &mut dyn Ring,
    memory: &'m GuestMemoryMmap,
    device: &Device,
    batch: &[Entry<'m>],
    pieces: &mut Memory<'m>,
) -> Result<(), Error> {
    let mut shared = share(memory, device, batch, pieces).into_iter();
    let mut has_prefetched = false;
    for (number, Entry { head, request }) in batch.iter().enumerate() {
        let mut waiting = || {
            // The guest goes on with what is done, and the disk works at all that follows, while we wait.
            let _ = notify_if_wanted(ring, memory);
            if !has_prefetched {
                has_prefetched = true;
                let later = batch.iter().skip(number + 1);
                later
                    .filter_map(|entry| entry.request.as_ref().ok())
                    .for_each(|request| device.prefetch(request));
            }
        };
        let shared = shared.next().flatten();
        let is_shared = shared.is_some();
        let written = match (request, shared) {
            (Ok(request), None) => device.answer(request, pieces, &mut waiting),
            (Ok(request), Some(shared)) => device.finish(request, shared, &mut waiting),
            (Err(Malformed), _) => {
                device.counters.malformed.fetch_add(1, Ordering::Relaxed);
                0
            }
        };
        ring.queue().add_used(memory, *head, written)?;
        // Small ones are told together. After a large one the guest asks for more while we work at the next.
        if is_shared || number + 1 == batch.len() {
            notify_if_wanted(ring, memory)?;
        }
    }
    Ok(())
}

/// Gives out the large reads of a batch, if they are enough together: for each request at its place what was given out.
fn share<'m>(
    memory: &'m GuestMemoryMmap,
    device: &Device,
    batch: &[Entry<'m>],
    pieces: &Memory<'m>,
) -> Vec<Option<Shared>> {
    let together: u64 = batch.iter().filter_map(Entry::large_read).map(|request| request.length).sum();
    if together < ENOUGH_TOGETHER {
        return Vec::new();
    }
    let memory = Arc::new(memory.clone());
    batch.iter().map(|entry| device.share(entry.large_read()?, &memory, pieces)).collect()
}

fn notify_if_wanted(ring: &mut dyn Ring, memory: &GuestMemoryMmap) -> Result<(), Error> {
    if ring.queue().needs_notification(memory)? {
        ring.notify();
    }
    Ok(())
}
