//! A disk whose queues somebody else has: requests are carried out, and there is no socket.

use std::sync::Arc;

use virtio_queue::{Error, Queue, QueueT};
use vm_memory::GuestMemoryMmap;

use super::device::Device;
use super::queue::{self, Ring};
use super::{Counters, Disk, Serial, config_space};

/// A disk without a transport, for whoever brings a queue and a guest's memory himself.
#[derive(Debug)]
pub struct Bare(Device);

impl Bare {
    /// A disk that a guest knows by `serial`.
    #[must_use]
    pub fn new(disk: Disk, serial: Serial) -> Self {
        Self(Device::new(disk, serial))
    }

    /// Answers what is in a queue, until nothing is or `is_closing` says that nobody waits for answers any more.
    /// Nobody is notified.
    ///
    /// # Errors
    /// If the rings are not in the guest's memory, or say what cannot be. The queue is of no use then.
    pub fn serve(
        &self,
        queue: &mut Queue,
        memory: &GuestMemoryMmap,
        is_closing: &dyn Fn() -> bool,
    ) -> Result<(), Error> {
        serve(&mut Silent(queue), memory, &self.0, is_closing)
    }

    /// What its driver reads before anything else (`struct virtio_blk_config`), for that many queues.
    #[must_use]
    pub fn config_space(&self, queues: u16) -> Vec<u8> {
        config_space::bytes(&self.0.disk, queues).to_vec()
    }

    /// What it did up to now.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.0.counters)
    }
}

/// Answers what is in a queue, until nothing is or `is_closing` says that nobody waits for answers any more.
///
/// # Errors
/// As [`queue::answer_batch`].
pub(super) fn serve(
    ring: &mut dyn Ring,
    memory: &GuestMemoryMmap,
    device: &Device,
    is_closing: &dyn Fn() -> bool,
) -> Result<(), Error> {
    loop {
        while queue::answer_batch(ring, memory, device)? > 0 {
            if is_closing() {
                return Ok(());
            }
        }
        if !ring.queue().enable_notification(memory)? {
            return Ok(());
        }
    }
}

/// A queue whose driver looks for itself.
struct Silent<'q>(&'q mut Queue);

impl Ring for Silent<'_> {
    fn queue(&mut self) -> &mut Queue {
        self.0
    }

    fn notify(&self) {}
}
