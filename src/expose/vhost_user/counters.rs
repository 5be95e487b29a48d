//! What an export did: numbers that only grow.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Number of classes of a histogram.
const CLASSES: usize = 40;

/// What is counted of an export, by all its threads.
#[derive(Debug, Default)]
pub struct Counters {
    /// `IN`.
    pub reads: Operations,
    /// `OUT`.
    pub writes: Operations,
    /// `FLUSH`.
    pub flushes: Operations,
    /// `DISCARD` and `WRITE_ZEROES`.
    pub discards: Operations,
    /// `GET_ID`, and whatever is not known.
    pub others: Operations,
    /// Descriptor chains that are no request.
    pub malformed: AtomicU64,
    /// Blocks that were not what the hash tree says.
    pub damaged: AtomicU64,
    /// Connections that were accepted.
    pub connections: AtomicU64,
    /// Those of them that ended.
    pub disconnections: AtomicU64,
}

/// What is counted of one kind of requests.
#[derive(Debug)]
pub struct Operations {
    requests: AtomicU64,
    bytes: AtomicU64,
    errors: AtomicU64,
    /// By the binary logarithm of nanoseconds.
    latencies: [AtomicU64; CLASSES],
}

/// The numbers at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Reads.
    pub reads: OperationCounts,
    /// Writes.
    pub writes: OperationCounts,
    /// Flushes.
    pub flushes: OperationCounts,
    /// Discards and zeros; the bytes are those of the segments' own description.
    pub discards: OperationCounts,
    /// All others.
    pub others: OperationCounts,
    /// Descriptor chains that are no request.
    pub malformed: u64,
    /// Blocks that were not what the hash tree says.
    pub damaged: u64,
    /// Connections that were accepted.
    pub connections: u64,
    /// Those of them that ended.
    pub disconnections: u64,
}

/// The numbers of one kind of requests at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationCounts {
    /// Requests that were answered.
    pub requests: u64,
    /// Bytes of data that went to or came from the guest in requests that succeeded.
    pub bytes: u64,
    /// Requests whose answer was not that they succeeded.
    pub errors: u64,
    /// How many took how long: class `i` counts those of at least 2^i and less than 2^(i+1) nanoseconds, the first
    /// also those below, the last also those above. Classes at the end that are 0 are left out.
    pub latencies: Vec<u64>,
}

impl Default for Operations {
    fn default() -> Self {
        Self {
            requests: AtomicU64::default(),
            bytes: AtomicU64::default(),
            errors: AtomicU64::default(),
            latencies: [const { AtomicU64::new(0) }; CLASSES],
        }
    }
}

impl Operations {
    /// Counts a request.
    pub(super) fn count(&self, bytes: u64, succeeded: bool, took: Duration) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if succeeded {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        } else {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(class) = self.latencies.get(class(took)) {
            class.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counts(&self) -> OperationCounts {
        let mut latencies: Vec<u64> = self.latencies.iter().map(load).collect();
        let used = latencies.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        latencies.truncate(used);
        OperationCounts {
            requests: load(&self.requests),
            bytes: load(&self.bytes),
            errors: load(&self.errors),
            latencies,
        }
    }
}

impl Counters {
    /// The numbers now. Those of a request that is being answered may be there in part.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            reads: self.reads.counts(),
            writes: self.writes.counts(),
            flushes: self.flushes.counts(),
            discards: self.discards.counts(),
            others: self.others.counts(),
            malformed: load(&self.malformed),
            damaged: load(&self.damaged),
            connections: load(&self.connections),
            disconnections: load(&self.disconnections),
        }
    }
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn class(took: Duration) -> usize {
    let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    nanoseconds.checked_ilog2().map_or(0, |class| (class as usize).min(CLASSES - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_in_the_class_of_their_logarithm() {
        for (nanoseconds, expected) in
            [(0, 0), (1, 0), (2, 1), (1023, 9), (1024, 10), (u64::MAX, CLASSES - 1)]
        {
            assert_eq!(class(Duration::from_nanos(nanoseconds)), expected, "{nanoseconds}");
        }
    }

    #[test]
    fn bytes_of_failed_requests_are_not_counted() {
        let operations = Operations::default();
        operations.count(512, true, Duration::from_nanos(5));
        operations.count(512, false, Duration::from_nanos(1));
        let latencies = vec![1, 0, 1];
        assert_eq!(operations.counts(), OperationCounts { requests: 2, bytes: 512, errors: 1, latencies });
    }
}
