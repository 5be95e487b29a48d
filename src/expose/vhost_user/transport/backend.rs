//! A device as the crate vhost-user-backend wants it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{VhostUserBackend, VringMutex, VringState, VringT};
use virtio_queue::{Error as QueueError, Queue, QueueT};
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{EventConsumer, EventNotifier};

use crate::expose::vhost_user::device::Device;
use crate::expose::vhost_user::gathering::Gathering;
use crate::expose::vhost_user::polling::Polling;
use crate::expose::vhost_user::queue::{self, Ring};
use crate::expose::vhost_user::{Error, config_space};
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
    /// Of each queue, for its thread.
    habits: Box<[Mutex<Habits>]>,
}

/// What was learned of how a guest uses a queue.
#[derive(Debug, Default)]
struct Habits {
    polling: Polling,
    gathering: Gathering,
}

impl Backend {
    pub(super) fn new(device: Arc<Device>, queues: u16) -> Result<Self, Error> {
        let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
        let exits =
            WorkerExits::new(queues.into()).map_err(Error::socket("make the events that end threads"))?;
        let habits = (0..queues).map(|_| Mutex::default()).collect();
        Ok(Self { device, queues, memory, exits, is_closing: AtomicBool::new(false), habits })
    }

    /// The memory of the guest, which is none until the monitor has given some.
    pub(super) fn memory(&self) -> GuestMemoryAtomic<GuestMemoryMmap> {
        self.memory.clone()
    }

    /// Nobody waits for answers any more: threads end after the requests that they have read.
    pub(super) fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
    }

    /// Answers what is in a queue, until its driver has to notify us of more.
    ///
    /// The ring is held for one batch of requests at a time: the monitor may want to change it between two.
    fn serve(&self, ring: &VringMutex, habits: &mut Habits) -> Result<(), QueueError> {
        let Habits { polling, gathering } = habits;
        let now = Instant::now();
        polling.woken(now);
        if let Some(pause) = gathering.woken(now) {
            thread::sleep(pause);
        }
        loop {
            match self.answer_batch(ring)? {
                0 if polling.look(|| self.has_requests(ring))? || self.ask_for_notifications(ring)? => {}
                0 => {
                    polling.sleeps(Instant::now());
                    return Ok(());
                }
                answered => {
                    gathering.answered(answered, Instant::now());
                    if self.is_closing.load(Ordering::Acquire) {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn answer_batch(&self, ring: &VringMutex) -> Result<usize, QueueError> {
        let mut ring = ring.get_mut();
        if !is_served(&ring) {
            return Ok(0);
        }
        queue::answer_batch(&mut *ring, &self.memory.memory(), &self.device)
    }

    fn has_requests(&self, ring: &VringMutex) -> Result<bool, QueueError> {
        let ring = ring.get_ref();
        Ok(is_served(&ring) && queue::has_requests(ring.get_queue(), &self.memory.memory())?)
    }

    /// Has the driver notify us of its next request, and returns whether there is one already.
    fn ask_for_notifications(&self, ring: &VringMutex) -> Result<bool, QueueError> {
        let mut ring = ring.get_mut();
        Ok(is_served(&ring) && ring.enable_notification()?)
    }

    /// A queue that cannot be read is of no use until the monitor sets it up again.
    fn give_up(&self, ring: &VringMutex, error: &QueueError) {
        let serial = &self.device.serial;
        tracing::warn!(%serial, %error, "a guest's queue is broken and not served any more");
        ring.set_queue_ready(false);
    }
}

/// Whether the monitor wants a queue to be served: it stops and disables one as it likes.
fn is_served(ring: &VringState) -> bool {
    ring.is_enabled() && ring.get_queue().ready()
}

impl Ring for VringState {
    fn queue(&mut self) -> &mut Queue {
        self.get_queue_mut()
    }

    fn notify(&self) {
        // A monitor that takes no notifications has gone, or asks for none.
        let _ = self.signal_used_queue();
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
        thread: usize,
    ) -> io::Result<()> {
        if let (Some(ring), Some(habits)) = (rings.get(usize::from(ring)), self.habits.get(thread)) {
            let mut habits = habits.lock().unwrap_or_else(PoisonError::into_inner);
            match self.serve(ring, &mut habits) {
                Ok(()) | Err(QueueError::QueueNotReady) => {}
                Err(error) => self.give_up(ring, &error),
            }
        }
        Ok(())
    }
}
