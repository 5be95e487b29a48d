//! A guest's memory with a queue in it.

use std::cell::Cell;

use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Error, Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::expose::vhost_user::counters::Counts;
use crate::expose::vhost_user::device::Device;
use crate::expose::vhost_user::queue::Ring;
use crate::expose::vhost_user::{Disk, bare};

/// Entries of the queue, where its size does not matter.
pub(super) const ENTRIES: u16 = 16;

/// Where the queue is: its descriptors, the ring of those that are available, and that of those that were used.
const TABLE: u64 = 0x1000;
const AVAILABLE: u64 = 0x6000;
const USED: u64 = 0x8000;

/// Where requests may lie: behind the queue.
pub(super) const FREE: u64 = 0x1_0000;

/// Where the memory ends. A second region begins here, so that data may lie in both.
pub(super) const SEAM: u64 = 0x10_0000;

pub(super) const NEXT: u16 = 1;
pub(super) const WRITE: u16 = 2;
pub(super) const INDIRECT: u16 = 4;

/// A guest with a disk.
pub(super) struct Guest {
    memory: GuestMemoryMmap,
    entries: u16,
    device: Device,
    queue: Queue,
    notified: Cell<u32>,
}

/// A descriptor: address, length, flags, next.
pub(super) type Fields = (u64, u32, u16, u16);

impl Guest {
    pub(super) fn new(disk: Disk) -> Self {
        Self::with_entries(disk, ENTRIES)
    }

    /// The same with another size of the queue.
    pub(super) fn with_entries(disk: Disk, entries: u16) -> Self {
        let regions = [(GuestAddress(0), SEAM as usize), (GuestAddress(SEAM), SEAM as usize)];
        let memory = GuestMemoryMmap::from_ranges(&regions).unwrap();
        let mut queue = Queue::new(entries).unwrap();
        queue.try_set_desc_table_address(GuestAddress(TABLE)).unwrap();
        queue.try_set_avail_ring_address(GuestAddress(AVAILABLE)).unwrap();
        queue.try_set_used_ring_address(GuestAddress(USED)).unwrap();
        queue.set_ready(true);
        let device = Device::new(disk, "layers".parse().unwrap());
        Self { memory, entries, device, queue, notified: Cell::new(0) }
    }

    pub(super) fn put_descriptor(&self, index: u16, (address, length, flags, next): Fields) {
        let descriptor = Descriptor::new(address, length, flags, next);
        let place = TABLE + u64::from(index) * 16;
        self.memory.write_obj(RawDescriptor::from(descriptor), GuestAddress(place)).unwrap();
    }

    /// Descriptors one after the other, each the next of the one before.
    pub(super) fn put_chain(&self, pieces: &[(u64, u32, u16)]) {
        for ((index, (address, length, flags)), is_last) in
            (0..).zip(pieces).zip((1..=pieces.len()).map(|count| count == pieces.len()))
        {
            let next = if is_last { 0 } else { NEXT };
            self.put_descriptor(index, (*address, *length, flags | next, index + 1));
        }
    }

    /// The same descriptors in a table of their own at `address`, which the first descriptor names.
    pub(super) fn put_indirect(&self, address: u64, pieces: &[(u64, u32, u16)]) {
        for (index, (piece, length, flags)) in (0..).zip(pieces) {
            let next = if usize::from(index) + 1 == pieces.len() { 0 } else { NEXT };
            let raw = RawDescriptor::from(Descriptor::new(*piece, *length, flags | next, index + 1));
            self.memory.write_obj(raw, GuestAddress(address + u64::from(index) * 16)).unwrap();
        }
        self.put_descriptor(0, (address, pieces.len() as u32 * 16, INDIRECT, 0));
    }

    /// The header of a request.
    pub(super) fn put_header(&self, address: u64, kind: u32, sector: u64) {
        let header = [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat();
        self.put(address, &header);
    }

    pub(super) fn put(&self, address: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(address)).unwrap();
    }

    pub(super) fn get(&self, address: u64, length: u64) -> Vec<u8> {
        let mut bytes = vec![0; length as usize];
        self.memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    }

    /// Makes the chain at descriptor `head` available and has the queue served.
    pub(super) fn offer(&mut self, head: u16) -> Result<(), Error> {
        let next = self.queue.next_avail();
        self.put(AVAILABLE + 4 + u64::from(next % self.entries) * 2, &head.to_le_bytes());
        self.put_available(next.wrapping_add(1));
        self.serve()
    }

    /// Makes the chain at descriptor 0 available so many times at once.
    pub(super) fn offer_again(&mut self, times: u16) -> Result<(), Error> {
        let next = self.queue.next_avail();
        (0..times).for_each(|time| {
            let entry = next.wrapping_add(time) % self.entries;
            self.put(AVAILABLE + 4 + u64::from(entry) * 2, &0_u16.to_le_bytes());
        });
        self.put_available(next.wrapping_add(times));
        self.serve()
    }

    /// What is said of the number of chains that are available.
    pub(super) fn put_available(&self, index: u16) {
        self.put(AVAILABLE + 2, &index.to_le_bytes());
    }

    pub(super) fn serve(&mut self) -> Result<(), Error> {
        let mut ring = Counted { queue: &mut self.queue, notified: &self.notified };
        bare::serve(&mut ring, &self.memory, &self.device, &|| false)
    }

    /// Offers the chain at descriptor 0, and returns how many bytes were written for it.
    pub(super) fn used(&mut self) -> u32 {
        let before = self.queue.next_used();
        self.offer(0).unwrap();
        assert_eq!(self.queue.next_used(), before + 1, "one chain comes back for one");
        let address = USED + 4 + u64::from(before % self.entries) * 8 + 4;
        self.memory.read_obj::<u32>(GuestAddress(address)).unwrap()
    }

    pub(super) fn set_event_index(&mut self) {
        self.queue.set_event_idx(true);
    }

    pub(super) fn notified(&self) -> u32 {
        self.notified.get()
    }

    pub(super) fn counts(&self) -> Counts {
        self.device.counters.counts()
    }
}

/// A queue whose notifications are counted.
struct Counted<'g> {
    queue: &'g mut Queue,
    notified: &'g Cell<u32>,
}

impl Ring for Counted<'_> {
    fn queue(&mut self) -> &mut Queue {
        self.queue
    }

    fn notify(&self) {
        self.notified.set(self.notified.get() + 1);
    }
}
