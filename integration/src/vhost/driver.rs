//! A driver of a virtio-blk device behind a vhost-user socket.

use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use virtio_driver::{
    VhostUser, VirtioBlkConfig, VirtioBlkFeatureFlags, VirtioBlkQueue, VirtioBlkReqBuf, VirtioBlkTransport,
    VirtioFeatureFlags,
};

/// How long a device may take for an answer before it counts as dead.
const PATIENCE: Duration = Duration::from_secs(30);

/// The features that are taken if the device has them.
const FEATURES: u64 = VirtioFeatureFlags::VERSION_1.bits()
    | VirtioFeatureFlags::RING_EVENT_IDX.bits()
    | VirtioBlkFeatureFlags::RO.bits()
    | VirtioBlkFeatureFlags::FLUSH.bits()
    | VirtioBlkFeatureFlags::DISCARD.bits()
    | VirtioBlkFeatureFlags::WRITE_ZEROES.bits();

/// A device, driven through one queue. Requests of one call are in flight together.
pub struct Driver {
    /// The number of a request's window is its context.
    queue: VirtioBlkQueue<'static, usize>,
    windows: Windows,
    /// The queue lies in its memory.
    transport: Box<VirtioBlkTransport>,
}

/// Memory that driver and device share, in windows of one size: one for each request in flight.
///
/// The device knows it by the addresses of `place`. Here it is reached through its file only, so `place` is never
/// touched, and takes no memory.
struct Windows {
    file: File,
    place: Vec<u8>,
    size: usize,
}

/// How requests are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Entries of the queue, a power of two.
    pub queue_size: u16,
    /// How many requests are in flight. Each takes three entries of the queue.
    pub depth: usize,
    /// The length of a request in bytes, in whole sectors.
    pub request: usize,
}

impl Driver {
    /// Connects to the device behind a socket, and shares memory for requests of this shape with it.
    ///
    /// # Errors
    /// There is no such device, or it refuses memory or queue.
    pub fn connect(socket: &Path, shape: Shape) -> Result<Self> {
        let name = socket.to_str().context("a socket's path is not UTF-8")?;
        let connected = VhostUser::<VirtioBlkConfig, VirtioBlkReqBuf>::new(name, FEATURES);
        let connected = connected.with_context(|| format!("connect to {}", socket.display()))?;
        let mut transport: Box<VirtioBlkTransport> = Box::new(connected);
        let queues = VirtioBlkQueue::setup_queues(&mut *transport, 1, shape.queue_size);
        let mut queue = queues.context("set up the queue")?.pop().context("the device has no queue")?;
        // Without it the event index stays where it is, and the device tells of the first request only.
        queue.set_used_notif_enabled(true);
        let windows = Windows::new(shape)?;
        let (address, length) = (windows.place.as_ptr() as usize, windows.place.len());
        let shared = transport.map_mem_region(address, length, windows.file.as_raw_fd(), 0);
        shared.context("share memory with the device")?;
        Ok(Self { queue, windows, transport })
    }

    /// Size of the device in bytes.
    ///
    /// # Errors
    /// It does not answer.
    pub fn capacity(&self) -> Result<u64> {
        let config = self.transport.get_config().context("read the device's configuration")?;
        Ok(u64::from(config.capacity) * 512)
    }

    /// Whether the device says that it cannot be written to.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.transport.get_features() & VirtioBlkFeatureFlags::RO.bits() != 0
    }

    /// Reads at these offsets, as many requests in flight as the shape allows, and looks at no byte of what
    /// comes. Returns the number of requests.
    ///
    /// # Errors
    /// A request fails, or takes too long.
    pub fn read_all(&mut self, offsets: impl IntoIterator<Item = u64>) -> Result<u64> {
        let mut offsets = offsets.into_iter().fuse();
        let mut free: Vec<usize> = (0..self.windows.count()).collect();
        let (depth, mut done) = (free.len(), 0);
        loop {
            while !free.is_empty() {
                let Some(offset) = offsets.next() else { break };
                let window = free.pop().unwrap_or_default();
                self.queue.read(offset, self.windows.window(window), window).context("queue a read")?;
            }
            if free.len() == depth {
                return Ok(done);
            }
            self.notify()?;
            let before = free.len();
            self.wait()?;
            for completion in self.queue.completions() {
                ensure!(completion.ret == 0, "a read failed: {}", error(completion.ret));
                free.push(completion.context);
            }
            done += (free.len() - before) as u64;
        }
    }

    /// Reads one request's length of bytes.
    ///
    /// # Errors
    /// The device says so, or takes too long.
    pub fn read(&mut self, offset: u64) -> Result<Vec<u8>> {
        self.queue.read(offset, self.windows.window(0), 0).context("queue a read")?;
        self.finish("read")?;
        let mut bytes = vec![0; self.windows.size];
        self.windows.file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Writes one request's length of bytes.
    ///
    /// # Errors
    /// There are more or fewer bytes; the device says so, or takes too long.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        ensure!(bytes.len() == self.windows.size, "a write has {} bytes", self.windows.size);
        self.windows.file.write_all_at(bytes, 0)?;
        self.queue.write(offset, self.windows.window(0), 0).context("queue a write")?;
        self.finish("write")
    }

    /// Flushes the device.
    ///
    /// # Errors
    /// The device says so, or takes too long.
    pub fn flush(&mut self) -> Result<()> {
        self.queue.flush(0).context("queue a flush")?;
        self.finish("flush")
    }

    /// Gives a range of bytes back.
    ///
    /// # Errors
    /// The device says so, or takes too long.
    pub fn discard(&mut self, range: Range<u64>) -> Result<()> {
        self.queue.discard(range.start, range.end - range.start, 0).context("queue a discard")?;
        self.finish("discard")
    }

    /// Waits for the one request in flight.
    fn finish(&mut self, what: &str) -> Result<()> {
        self.notify()?;
        loop {
            self.wait()?;
            if let Some(completion) = self.queue.completions().next() {
                ensure!(completion.ret == 0, "a {what} failed: {}", error(completion.ret));
                return Ok(());
            }
        }
    }

    fn notify(&mut self) -> Result<()> {
        if self.queue.avail_notif_needed() {
            self.transport.get_submission_notifier(0).notify().context("notify the device")?;
        }
        Ok(())
    }

    /// Waits until the device has finished something.
    fn wait(&mut self) -> Result<()> {
        if self.queue.completions().has_next() {
            return Ok(());
        }
        let event = self.transport.get_completion_fd(0);
        let patience = Timespec::try_from(PATIENCE)?;
        let mut polled = [PollFd::from_borrowed_fd(event.as_fd(), PollFlags::IN)];
        if poll(&mut polled, Some(&patience)).context("wait for the device")? == 0 {
            bail!("the device gave no answer within {} s", PATIENCE.as_secs());
        }
        event.read().map(drop).context("take the device's notification")
    }
}

fn error(code: i32) -> std::io::Error {
    std::io::Error::from_raw_os_error(-code)
}

impl Windows {
    fn new(shape: Shape) -> Result<Self> {
        let length = shape.depth * shape.request;
        let file: File = memfd_create("windows", MemfdFlags::CLOEXEC).context("make memory")?.into();
        file.set_len(length as u64)?;
        Ok(Self { file, place: vec![0; length], size: shape.request })
    }

    fn count(&self) -> usize {
        self.place.len() / self.size
    }

    /// The addresses of a window, as the driver wants to have them.
    fn window(&mut self, number: usize) -> &mut [u8] {
        let start = number * self.size;
        self.place.get_mut(start..start + self.size).unwrap_or_default()
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("windows", &self.windows.count()).finish_non_exhaustive()
    }
}
