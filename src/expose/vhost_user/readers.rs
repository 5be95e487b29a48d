//! Threads that read beside the one of a queue.
//!
//! A large read is cut into parts, which whoever is free carries out: threads that all queues of an export share, and
//! the queue's own, which therefore never waits for a thread that has not begun. That needs a disk that nobody writes to,
//! where reads have no order among themselves. `docs/decisions/large-reads-shared.md` has the figures.

use std::hint;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap, VolatileSlice};

use super::disk::Image;
use super::pieces::{Cursor, place};

/// Most threads of an export.
const MOST_THREADS: usize = 3;

/// Bytes of a part: copying them takes a few tens of microseconds, about as long as waking a thread.
const PART: u64 = 1 << 18;

/// How long a thread looks for the end of parts that others carry out before it sleeps.
const LONGEST_LOOK: Duration = Duration::from_micros(50);

/// The threads of an export. They are started when they are first needed, and end with this.
#[derive(Debug)]
pub(super) struct Readers {
    threads: usize,
    started: OnceLock<Option<Started>>,
}

#[derive(Debug)]
struct Started {
    /// None at the end.
    give: Option<Sender<Part>>,
    take: Receiver<Part>,
    threads: Vec<JoinHandle<()>>,
}

/// A read that is being carried out in parts.
#[derive(Debug)]
pub(super) struct Shared {
    take: Receiver<Part>,
    state: Arc<State>,
    /// When it was given out.
    pub(super) begun: Instant,
}

/// What the parts of a read have in common.
#[derive(Debug)]
struct State {
    /// Parts that are not done.
    left: AtomicUsize,
    failure: Mutex<Option<io::Error>>,
    /// Who waits for the last of them.
    owner: Thread,
}

/// A part of a read. It is done once it is dropped, whatever happened to it.
#[derive(Debug)]
struct Part {
    image: Arc<Image>,
    /// It stays mapped as long as somebody may write to it, whatever the monitor does.
    memory: Arc<GuestMemoryMmap>,
    range: Range<u64>,
    places: Vec<(GuestAddress, usize)>,
    state: Arc<State>,
}

impl Readers {
    /// As many as processors are left, which are counted now: a process that serves cannot ask any more.
    pub(super) fn new() -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Self { threads: (processors - 1).min(MOST_THREADS), started: OnceLock::new() }
    }

    /// Gives out the read of a `range` of the image into `pieces` of this memory, which are as long. None if it has to be
    /// done as any other: there are no threads, or it is too short to be cut.
    pub(super) fn share(
        &self,
        image: &Arc<Image>,
        memory: &Arc<GuestMemoryMmap>,
        range: Range<u64>,
        pieces: &[VolatileSlice<'_>],
    ) -> Option<Shared> {
        let started = self.started.get_or_init(|| Started::new(self.threads)).as_ref()?;
        let give = started.give.as_ref()?;
        let state = State { left: AtomicUsize::new(0), failure: Mutex::default(), owner: thread::current() };
        let state = Arc::new(state);
        let mut cursor = Cursor::new(pieces);
        let parts = range.clone().step_by(PART as usize).map(|start| {
            let range = start..range.end.min(start + PART);
            let mut places = Vec::new();
            cursor.take(range.end - range.start, &mut places).ok()?;
            let places = places.iter().map(|piece| place(memory, piece)).collect::<Option<_>>()?;
            state.left.fetch_add(1, Ordering::Relaxed);
            let (image, memory) = (Arc::clone(image), Arc::clone(memory));
            Some(Part { image, memory, range, places, state: Arc::clone(&state) })
        });
        let parts = parts.collect::<Option<Vec<_>>>()?;
        let begun = Instant::now();
        // Nobody has closed the channel: both of its ends are here.
        parts.into_iter().for_each(|part| drop(give.send(part)));
        Some(Shared { take: started.take.clone(), state, begun })
    }
}

impl Started {
    fn new(threads: usize) -> Option<Self> {
        let (give, take) = unbounded::<Part>();
        let start = |_| {
            let take = take.clone();
            let work = move || take.into_iter().for_each(|part| part.read(&mut || ()));
            thread::Builder::new().name("vhost-reader".to_owned()).spawn(work).ok()
        };
        let threads: Vec<_> = (0..threads).map_while(start).collect();
        (!threads.is_empty()).then_some(Self { give: Some(give), take, threads })
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.give = None;
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Carries out what nobody else does, and returns when all is done.
    ///
    /// `waiting` is called before something takes long.
    pub(super) fn finish(self, waiting: &mut dyn FnMut()) -> io::Result<()> {
        let mut idle = None;
        while self.state.left.load(Ordering::Acquire) > 0 {
            if let Ok(part) = self.take.try_recv() {
                part.read(waiting);
                idle = None;
            } else if idle.get_or_insert_with(Instant::now).elapsed() < LONGEST_LOOK {
                hint::spin_loop();
            } else {
                thread::park();
            }
        }
        let failure = self.state.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        failure.map_or(Ok(()), Err)
    }
}

impl Part {
    fn read(self, waiting: &mut dyn FnMut()) {
        if let Err(error) = self.fill(waiting) {
            self.state.fail(error);
        }
    }

    fn fill(&self, waiting: &mut dyn FnMut()) -> io::Result<()> {
        let mut pieces = Vec::with_capacity(self.places.len());
        for (address, length) in &self.places {
            for piece in self.memory.get_slices(*address, *length) {
                pieces.push(piece.map_err(io::Error::other)?);
            }
        }
        self.image.read(self.range.clone(), &pieces, &mut Vec::new(), waiting)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if thread::panicking() {
            self.state.fail(io::Error::other("a thread that reads panicked"));
        }
        if self.state.left.fetch_sub(1, Ordering::Release) == 1 {
            self.state.owner.unpark();
        }
    }
}

impl State {
    /// The first failure is the one that counts.
    fn fail(&self, error: io::Error) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}
