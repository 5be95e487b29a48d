//! The threads that make layers of what committed snapshots wrote, and those who wait for them.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};

use super::Error;
use super::record::{Record, SnapshotId};
use super::seal::Workshop;
use crate::store;

/// Layers that are made at the same time: one may wait for the disk while the other is read.
const THREADS: usize = 2;

/// Threads that make layers, in the order of the commits.
///
/// Dropping this ends them at the next file, or piece of a large one. What they did not get to is made
/// after the next start, for the records say what is missing.
#[derive(Debug)]
pub(super) struct Sealing {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    workshop: Workshop,
    queue: Mutex<Queue>,
    changed: Condvar,
    stop: AtomicBool,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<SnapshotId>,
    /// Of those that wait and those that are being made.
    jobs: HashMap<SnapshotId, Arc<Job>>,
}

/// One attempt to make the layer of a snapshot.
#[derive(Debug, Default)]
struct Job {
    cancelled: AtomicBool,
    outcome: OnceLock<Result<(), Arc<Error>>>,
}

impl Sealing {
    /// Starts the threads.
    ///
    /// # Errors
    /// If no thread can be made.
    pub(super) fn start(workshop: Workshop) -> Result<Self, Error> {
        let (queue, changed) = (Mutex::default(), Condvar::default());
        let shared = Arc::new(Shared { workshop, queue, changed, stop: AtomicBool::new(false) });
        let mut sealing = Self { shared, threads: Vec::new() };
        for number in 0..THREADS {
            let worker = Arc::clone(&sealing.shared);
            let thread = thread::Builder::new().name(format!("seal-{number}")).spawn(move || worker.run());
            let place = sealing.shared.workshop.staging.path();
            sealing.threads.push(thread.map_err(store::Error::io("start a thread for", place))?);
        }
        Ok(sealing)
    }

    pub(super) fn workshop(&self) -> &Workshop {
        &self.shared.workshop
    }

    /// Has the layer of a committed snapshot made.
    pub(super) fn submit(&self, id: SnapshotId) {
        self.shared.lock().job(id);
        self.shared.changed.notify_all();
    }

    /// Waits until the layer of a committed snapshot is made, or the snapshot is removed. If the last
    /// attempt failed, this is another one. [`Error::Stopping`] after [`Sealing::stop`].
    pub(super) fn wait(&self, record: &Record) -> Result<(), Error> {
        let mut queue = self.shared.lock();
        let job = queue.job(record.id);
        self.shared.changed.notify_all();
        loop {
            match job.outcome.get() {
                Some(Ok(())) => return Ok(()),
                _ if self.shared.stopped() => return Err(Error::Stopping),
                Some(Err(reason)) => {
                    return Err(Error::NotSealed { name: record.key.clone(), reason: Arc::clone(reason) });
                }
                None => queue = self.shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Ends the work at the next file, or piece of a large one, and the waiting at once.
    pub(super) fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // The threads look at the flag under the lock before they sleep.
        drop(self.shared.lock());
        self.shared.changed.notify_all();
    }

    /// Ends the attempt for a snapshot that was removed.
    pub(super) fn cancel(&self, id: SnapshotId) {
        self.shared.lock().cancel(id);
        self.shared.changed.notify_all();
    }

    /// Waits until nothing is made any more for snapshots that were removed. They end at the next file, or
    /// piece of a large one.
    pub(super) fn wait_for_cancelled(&self) {
        let cancelled = |job: &Arc<Job>| job.cancelled.load(Ordering::Relaxed);
        let mut queue = self.shared.lock();
        while !self.shared.stopped() && queue.jobs.values().any(cancelled) {
            queue = self.shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Queue {
    /// The attempt for a snapshot: the one that is under way, or a new one.
    fn job(&mut self, id: SnapshotId) -> Arc<Job> {
        let waiting = &mut self.waiting;
        let job = self.jobs.entry(id).or_insert_with(|| {
            waiting.push_back(id);
            Arc::default()
        });
        Arc::clone(job)
    }

    /// Ends an attempt. One that has not begun is over: it must not wait for all those before it, as
    /// [`Sealing::wait_for_cancelled`] would then.
    fn cancel(&mut self, id: SnapshotId) {
        let Some(job) = self.jobs.get(&id).map(Arc::clone) else { return };
        job.cancelled.store(true, Ordering::Relaxed);
        if let Some(place) = self.waiting.iter().position(|waiting| *waiting == id) {
            self.waiting.remove(place);
            // Nobody else sets it, as no thread has taken it.
            let _ = job.outcome.set(Ok(()));
            self.jobs.remove(&id);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A panic elsewhere cannot leave the queue half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn run(&self) {
        let mut queue = self.lock();
        while !self.stopped() {
            let Some(id) = queue.waiting.pop_front() else {
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let job = queue.job(id);
            drop(queue);
            let outcome = self.attempt(id, &job);
            queue = self.lock();
            // Nobody else sets it.
            let _ = job.outcome.set(outcome.map_err(Arc::new));
            queue.jobs.remove(&id);
            self.changed.notify_all();
        }
    }

    /// Makes one layer. A snapshot that is gone needs none.
    fn attempt(&self, id: SnapshotId, job: &Job) -> Result<(), Error> {
        let stop = || self.stopped() || job.cancelled.load(Ordering::Relaxed);
        let made = catch_unwind(AssertUnwindSafe(|| self.workshop.seal(id, &stop)));
        let made = made.unwrap_or(Err(Error::SealingPanicked));
        let is_gone = || self.workshop.ledger.read(|index| index.by_id(id).is_none());
        match made {
            Err(_) if is_gone() => Ok(()),
            Err(error) if !self.stopped() => {
                tracing::error!(%error, snapshot = %id, "no layer can be made of what was written, the next call tries again");
                Err(error)
            }
            made => made,
        }
    }
}

impl Drop for Sealing {
    fn drop(&mut self) {
        self.stop();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread that makes layers panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_that_has_not_begun_is_over_when_it_is_cancelled() {
        let [long, waiting, other] = std::array::from_fn(|_| SnapshotId::new().unwrap());
        let mut queue = Queue::default();
        let jobs = [long, waiting, other].map(|id| queue.job(id));
        assert_eq!(queue.waiting.pop_front(), Some(long));
        queue.cancel(long);
        queue.cancel(waiting);
        assert!(jobs[0].cancelled.load(Ordering::Relaxed) && jobs[0].outcome.get().is_none());
        assert!(matches!(jobs[1].outcome.get(), Some(Ok(()))));
        assert!(queue.jobs.contains_key(&long) && !queue.jobs.contains_key(&waiting));
        assert_eq!(queue.waiting, [other]);
    }
}
