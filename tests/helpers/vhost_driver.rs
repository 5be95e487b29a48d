//! The other side of a vhost-user disk: the driver of the crate virtio-driver, with some memory.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::MemfdFlags;
use std::os::fd::AsRawFd;
use virtio_driver::{VhostUser, VirtioBlkConfig, VirtioBlkQueue, VirtioBlkReqBuf, VirtioBlkTransport, iovec};
use vm_memory::{FileOffset, MmapRegion, VolatileMemory};

/// Bytes of memory for data.
pub(crate) const ROOM: usize = 4 << 20;

/// How long an answer may take before it is taken for lost. No test waits so long that passes.
const LOST: Duration = Duration::from_secs(60);

/// A driver that is connected to a disk.
pub(crate) struct Driver {
    // Dropped before the memory in which they lie.
    queues: Vec<VirtioBlkQueue<'static, usize>>,
    transport: Box<VirtioBlkTransport>,
    memory: MmapRegion,
}

impl Driver {
    /// Connects to the disk at `socket` with queues of `size` entries.
    pub(crate) fn connect(socket: &Path, queues: usize, size: u16) -> Self {
        let vhost =
            VhostUser::<VirtioBlkConfig, VirtioBlkReqBuf>::new(socket.to_str().unwrap(), u64::MAX).unwrap();
        let mut transport: Box<VirtioBlkTransport> = Box::new(vhost);
        let mut queues = VirtioBlkQueue::setup_queues(&mut *transport, queues, size).unwrap();
        // Or the driver says of the first answer only that it wants to hear of it.
        queues
            .iter_mut()
            .for_each(|queue: &mut VirtioBlkQueue<'_, usize>| queue.set_used_notif_enabled(true));
        let file: File = rustix::fs::memfd_create("guest", MemfdFlags::CLOEXEC).unwrap().into();
        file.set_len(ROOM as u64).unwrap();
        let descriptor = file.as_raw_fd();
        let memory = MmapRegion::from_file(FileOffset::new(file.try_clone().unwrap(), 0), ROOM).unwrap();
        transport.map_mem_region(memory.as_ptr() as usize, ROOM, descriptor, 0).unwrap();
        Self { queues, transport, memory }
    }

    pub(crate) fn config(&self) -> VirtioBlkConfig {
        self.transport.get_config().unwrap()
    }

    /// Features that both sides have.
    pub(crate) fn features(&self) -> u64 {
        self.transport.get_features()
    }

    /// Puts bytes where data is.
    pub(crate) fn put(&self, at: usize, bytes: &[u8]) {
        self.memory.get_slice(at, bytes.len()).unwrap().copy_from(bytes);
    }

    /// The bytes where data is.
    pub(crate) fn get(&self, at: usize, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory.get_slice(at, length).unwrap().copy_to(&mut bytes);
        bytes
    }

    /// Puts a read into a queue: pieces of memory, each with its place and length.
    pub(crate) fn submit_read(
        &mut self,
        queue: usize,
        offset: u64,
        pieces: &[(usize, usize)],
        context: usize,
    ) {
        let pieces = self.pieces(pieces);
        let queue = &mut self.queues[queue];
        #[allow(unsafe_code)]
        // SAFETY: the pieces lie in the memory, which lives as long as the queue; nothing here refers to it.
        unsafe { queue.readv(offset, pieces.as_ptr(), pieces.len(), context) }.unwrap();
    }

    fn submit_write(&mut self, queue: usize, offset: u64, at: usize, length: usize) {
        let pieces = self.pieces(&[(at, length)]);
        let queue = &mut self.queues[queue];
        #[allow(unsafe_code)]
        // SAFETY: as for reads.
        unsafe { queue.writev(offset, pieces.as_ptr(), pieces.len(), 0) }.unwrap();
    }

    fn pieces(&self, pieces: &[(usize, usize)]) -> Vec<iovec> {
        let piece = |(at, length): &(usize, usize)| {
            let slice = self.memory.get_slice(*at, *length).unwrap();
            iovec { iov_base: slice.ptr_guard_mut().as_ptr().cast(), iov_len: *length }
        };
        pieces.iter().map(piece).collect()
    }

    /// Reads into the beginning of the memory; 0, or a negative number that says why not.
    pub(crate) fn read(&mut self, queue: usize, offset: u64, length: usize) -> i32 {
        self.submit_read(queue, offset, &[(0, length)], 0);
        self.finish(queue)
    }

    /// Writes what is at the beginning of the memory.
    pub(crate) fn write(&mut self, queue: usize, offset: u64, length: usize) -> i32 {
        self.submit_write(queue, offset, 0, length);
        self.finish(queue)
    }

    pub(crate) fn flush(&mut self, queue: usize) -> i32 {
        self.queues[queue].flush(0).unwrap();
        self.finish(queue)
    }

    pub(crate) fn discard(&mut self, queue: usize, offset: u64, length: u64) -> i32 {
        self.queues[queue].discard(offset, length, 0).unwrap();
        self.finish(queue)
    }

    pub(crate) fn write_zeroes(&mut self, queue: usize, offset: u64, length: u64, unmap: bool) -> i32 {
        self.queues[queue].write_zeroes(offset, length, unmap, 0).unwrap();
        self.finish(queue)
    }

    fn finish(&mut self, queue: usize) -> i32 {
        self.kick(queue);
        let (_, result) = self.wait(queue);
        result
    }

    /// Tells the device of what was put into a queue.
    pub(crate) fn kick(&self, queue: usize) {
        self.transport.get_submission_notifier(queue).notify().unwrap();
    }

    /// Waits for one answer: its context, and its result.
    pub(crate) fn wait(&mut self, queue: usize) -> (usize, i32) {
        let event = self.transport.get_completion_fd(queue);
        loop {
            if let Some(done) = self.queues[queue].completions().next() {
                return (done.context, done.ret);
            }
            let mut waited = [PollFd::new(&event, PollFlags::IN)];
            let ready = poll(&mut waited, Some(&LOST.try_into().unwrap())).unwrap();
            assert!(ready > 0 || self.queues[queue].completions().has_next(), "an answer is lost");
            if ready > 0 {
                event.read().unwrap();
            }
        }
    }
}
