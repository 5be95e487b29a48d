//! A device as the crate vhost-user-backend wants it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{VhostUserBackend, VringMutex, VringState, VringT};
use virtio_queue::{Error as QueueError, QueueT};
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{EventConsumer, EventNotifier};

use crate::expose::vhost_user::device::Device;
use crate::expose::vhost_user::{Error, config_space, queue};
use crate::sys::worker_exit::WorkerExits;

/// Most entries of a queue.
pub const QUEUE_SIZE: u16 = 1024;

/// Most queues of a disk. Each has a thread.
pub const MOST_QUEUES: u16 = 32;

/// One connection to a device.
#[derive(Debug)]
pub(super) struct Backend {
    device: Arc<Device>,
    queues: u16,
    memory: GuestMemoryAtomic<GuestMemoryMmap>,
    exits: WorkerExits,
    is_closing: AtomicBool,
}

impl Backend {
    pub(super) fn new(device: Arc<Device>, queues: u16) -> Result<Self, Error> {
        let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
        let exits =
            WorkerExits::new(queues.into()).map_err(Error::socket("make the events that end threads"))?;
        Ok(Self { device, queues, memory, exits, is_closing: AtomicBool::new(false) })
    }

    /// The memory of the guest, which is none until the monitor has given some.
    pub(super) fn memory(&self) -> GuestMemoryAtomic<GuestMemoryMmap> {
        self.memory.clone()
    }

    /// Nobody waits for answers any more: threads end after the requests that they have read.
    pub(super) fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
    }

    fn serve(&self, ring: &mut VringState) {
        let memory = self.memory.memory();
        let call = ring.get_call().as_ref().map(EventNotifier::try_clone);
        let notify = || {
            if let Some(Ok(call)) = &call {
                // A monitor that takes no notifications has gone, or asks for none.
                let _ = call.notify();
            }
        };
        let is_closing = || self.is_closing.load(Ordering::Acquire);
        match queue::serve(ring.get_queue_mut(), &memory, &self.device, &notify, &is_closing) {
            Ok(()) | Err(QueueError::QueueNotReady) => {}
            Err(error) => {
                let serial = &self.device.serial;
                tracing::warn!(%serial, %error, "a guest's queue is broken and not served any more");
                ring.get_queue_mut().set_ready(false);
            }
        }
    }
}

impl VhostUserBackend for Backend {
    type Bitmap = ();
    type Vring = VringMutex;

    fn num_queues(&self) -> usize {
        self.queues.into()
    }

    fn max_queue_size(&self) -> usize {
        QUEUE_SIZE.into()
    }

    fn features(&self) -> u64 {
        config_space::features(&self.device.disk) | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS
    }

    /// The queue knows it already.
    fn set_event_idx(&self, _enabled: bool) {}

    /// Nothing, which the crate answers with an error, for bytes that the space does not have.
    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        let space = config_space::bytes(&self.device.disk, self.queues);
        let end = (offset as usize).checked_add(size as usize);
        end.and_then(|end| space.get(offset as usize..end)).map(<[u8]>::to_vec).unwrap_or_default()
    }

    /// The same memory that [`Backend::memory`] gave the crate: it has put the new regions in.
    fn update_memory(&self, _memory: GuestMemoryAtomic<GuestMemoryMmap>) -> io::Result<()> {
        Ok(())
    }

    /// A thread for each queue.
    fn queues_per_thread(&self) -> Vec<u64> {
        (0..self.queues).map(|queue| 1 << queue).collect()
    }

    fn exit_event(&self, _thread: usize) -> Option<(EventConsumer, EventNotifier)> {
        self.exits.take()
    }

    fn handle_event(
        &self,
        ring: u16,
        _events: EventSet,
        rings: &[VringMutex],
        _thread: usize,
    ) -> io::Result<()> {
        if let Some(ring) = rings.get(usize::from(ring)) {
            self.serve(&mut ring.get_mut());
        }
        Ok(())
    }
}
