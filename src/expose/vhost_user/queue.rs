//! Everything that a guest put into one queue, in its order.
//!
//! Requests are completed one after the other, in the order in which they came, so the used ring says at any moment
//! which were carried out: whoever goes on with a queue whose exporter was killed starts at the first that is not
//! there. `docs/decisions/requests-in-order.md` says what hangs on that.

use std::sync::atomic::Ordering;

use virtio_queue::{Error, Queue, QueueOwnedT, QueueT};
use vm_memory::GuestMemoryMmap;

use super::device::{Device, Memory};
use super::request::{Malformed, Request};

/// A batch with so many pieces of memory takes no more requests. One request has at most 65536, so what a batch takes of
/// our memory has a bound, whatever tables a hostile guest lays out.
const ENOUGH_PIECES: usize = 1 << 14;

/// A request, or what was in its place.
struct Entry<'m> {
    head: u16,
    request: Result<Request<'m>, Malformed>,
}

/// Answers what is in a queue, until nothing is or `is_closing` says that nobody waits for answers any more.
///
/// `notify` wakes the guest, and is called only if it asked for that.
///
/// # Errors
/// If the rings are not in the guest's memory, or say what cannot be. The queue is of no use then.
pub(super) fn serve(
    queue: &mut Queue,
    memory: &GuestMemoryMmap,
    device: &Device,
    notify: &dyn Fn(),
    is_closing: &dyn Fn() -> bool,
) -> Result<(), Error> {
    let mut pieces = Memory::default();
    let mut batch = Vec::new();
    loop {
        queue.disable_notification(memory)?;
        loop {
            pieces.pieces.clear();
            batch.clear();
            for chain in queue.iter(memory)? {
                let head = chain.head_index();
                batch.push(Entry { head, request: Request::parse(chain, memory, &mut pieces.pieces) });
                if pieces.pieces.len() >= ENOUGH_PIECES {
                    break;
                }
            }
            if batch.is_empty() {
                break;
            }
            answer_all(queue, memory, device, &batch, &mut pieces, notify)?;
            if is_closing() {
                return Ok(());
            }
        }
        if !queue.enable_notification(memory)? {
            return Ok(());
        }
    }
}

fn answer_all<'m>(
    queue: &mut Queue,
    memory: &'m GuestMemoryMmap,
    device: &Device,
    batch: &[Entry<'m>],
    pieces: &mut Memory<'m>,
    notify: &dyn Fn(),
) -> Result<(), Error> {
    let mut has_prefetched = false;
    for (number, Entry { head, request }) in batch.iter().enumerate() {
        let written = match request {
            Ok(request) => {
                let mut waiting = || {
                    // The guest goes on with what is done, and the disk works at all that follows, while we wait.
                    let _ = notify_if_wanted(queue, memory, notify);
                    if !has_prefetched {
                        has_prefetched = true;
                        let later = batch.iter().skip(number + 1);
                        later
                            .filter_map(|entry| entry.request.as_ref().ok())
                            .for_each(|request| device.prefetch(request));
                    }
                };
                device.answer(request, pieces, &mut waiting)
            }
            Err(Malformed) => {
                device.counters.malformed.fetch_add(1, Ordering::Relaxed);
                0
            }
        };
        queue.add_used(memory, *head, written)?;
    }
    notify_if_wanted(queue, memory, notify)
}

fn notify_if_wanted(queue: &mut Queue, memory: &GuestMemoryMmap, notify: &dyn Fn()) -> Result<(), Error> {
    if queue.needs_notification(memory)? {
        notify();
    }
    Ok(())
}
