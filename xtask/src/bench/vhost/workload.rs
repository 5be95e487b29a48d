//! What is read of a disk, and how.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use nexuserofs_integration::random::Random;
use nexuserofs_integration::vhost::driver::{Driver, Shape};

/// A way of reading.
#[derive(Clone, Copy, Debug)]
pub(super) struct Workload {
    /// What it is called.
    pub(super) name: &'static str,
    order: Order,
    /// Requests, and how many are in flight.
    shape: Shape,
    /// How many requests one sample has. Sequential reads go over the disk as often as that takes.
    requests: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Sequential,
    Random,
}

/// Entries of the queue, as QEMU has them.
const QUEUE: u16 = 128;

/// All ways.
pub(super) const WORKLOADS: [Workload; 3] = [
    Workload {
        name: "sequential, 1 MiB, depth 4",
        order: Order::Sequential,
        shape: Shape { queue_size: QUEUE, depth: 4, request: 1 << 20 },
        requests: 2000,
    },
    Workload {
        name: "random, 4 KiB, depth 1",
        order: Order::Random,
        shape: Shape { queue_size: QUEUE, depth: 1, request: 4096 },
        requests: 30_000,
    },
    Workload {
        name: "random, 4 KiB, depth 32",
        order: Order::Random,
        shape: Shape { queue_size: QUEUE, depth: 32, request: 4096 },
        requests: 120_000,
    },
];

/// What a sample took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sample {
    /// Bytes that were read.
    pub(super) bytes: f64,
    /// Wall time.
    pub(super) seconds: f64,
    /// CPU time of the exporter. 0 where it was not asked for.
    pub(super) cpu_seconds: f64,
}

impl Sample {
    /// Bytes in a second.
    pub(super) fn rate(&self) -> f64 {
        self.bytes / self.seconds
    }
}

impl Workload {
    /// Whether a rate is better told in requests than in bytes.
    pub(super) const fn is_random(&self) -> bool {
        matches!(self.order, Order::Random)
    }

    /// Bytes of a request.
    #[expect(clippy::cast_precision_loss, reason = "a request is small")]
    pub(super) const fn request(&self) -> f64 {
        self.shape.request as f64
    }

    /// Reads through a socket. CPU time is the caller's to add.
    #[expect(clippy::cast_precision_loss, reason = "a few gigabytes are exact")]
    pub(super) fn read(&self, socket: &Path) -> Result<Sample> {
        let mut driver = Driver::connect(socket, self.shape)?;
        let places = driver.capacity()? as usize / self.shape.request;
        let mut random = Random::new(7);
        let place = |number: usize| match self.order {
            Order::Sequential => number % places,
            Order::Random => random.below(places),
        };
        let offsets = (0..self.requests).map(place).map(|place| (place * self.shape.request) as u64);
        let begun = Instant::now();
        let done = driver.read_all(offsets)?;
        let seconds = begun.elapsed().as_secs_f64();
        Ok(Sample { bytes: done as f64 * self.request(), seconds, cpu_seconds: 0.0 })
    }
}
