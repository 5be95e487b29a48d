//! All exports of the daemon.
//!
//! The daemon starts processes, and starts those again that end. It ends them with their snapshots, not with itself: the next
//! daemon finds them by their locks.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::specification::Identity;
use super::{Error, Place, Role, Running, Wanted, tally};
use crate::config::{LogFormat, LogLevel, LogSettings};
use crate::store;

/// Pause before a process is started again the second time in a row; it doubles with each further time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A process that served for so long has nothing to do with the one before.
const LONG: Duration = Duration::from_secs(60);

/// Name of the operator's tool, which serves disks when it is told to.
const PROGRAM: &str = "nexuserofs";

/// How processes are started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The operator's tool, `nexuserofs`.
    pub program: PathBuf,
    /// Whom they become.
    pub identity: Identity,
    /// What they log.
    pub log: LogSettings,
}

impl Launch {
    /// Of the tool that lies beside this program. It becomes nobody, and tells what is worth knowing.
    #[must_use]
    pub fn beside_this_program() -> Self {
        let this = std::env::current_exe().unwrap_or_default();
        let log = LogSettings { level: LogLevel::Info, format: LogFormat::Text };
        Self { program: this.with_file_name(PROGRAM), identity: Identity::NOBODY, log }
    }
}

/// All exports of the daemon. Dropping it leaves the processes alone.
///
/// Nothing is there, and no thread runs, before the first is asked for.
#[derive(Debug)]
pub struct Exports {
    directory: PathBuf,
    launch: Launch,
    running: OnceLock<Watched>,
}

/// Exports, and the thread that waits for their processes.
#[derive(Debug)]
struct Watched {
    shared: Arc<Shared>,
    watcher: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    launch: Launch,
    entries: Mutex<BTreeMap<String, Arc<Mutex<Entry>>>>,
    /// Written to when there is another process to wait for.
    changed: OwnedFd,
    is_ending: AtomicBool,
}

/// What became of an export that was to end unless a monitor is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It has ended, or there was none.
    Ended,
    /// A monitor is connected, or was when the process ended that is about to be started again.
    Connected,
}

/// An export.
#[derive(Debug)]
struct Entry {
    wanted: Wanted,
    state: State,
    /// How often in a row its process ended soon.
    failures: u32,
}

#[derive(Debug)]
enum State {
    /// Nobody asked for it yet.
    New,
    Served {
        by: Running,
        since: Instant,
    },
    /// Its process ended, and is started again at this time.
    Waiting {
        until: Instant,
    },
    /// It is not wanted any more.
    Removed,
}

impl Exports {
    /// Uses `directory`, which is made when it is needed.
    #[must_use]
    pub const fn new(directory: PathBuf, launch: Launch) -> Self {
        Self { directory, launch, running: OnceLock::new() }
    }

    /// Sees to it that these disks are served: by the process that does, or by a new one. From then on they are until
    /// [`Exports::end`].
    ///
    /// # Errors
    /// If no process can be started.
    pub fn ensure(&self, id: &str, wanted: Wanted) -> Result<(), Error> {
        let shared = self.shared()?;
        let new = || Arc::new(Mutex::new(Entry { wanted, state: State::New, failures: 0 }));
        let entry = Arc::clone(shared.entries().entry(id.to_owned()).or_insert_with(new));
        let outcome = shared.ensure(id, &mut lock(&entry));
        shared.wake();
        outcome
    }

    /// Leaves the process of an export to itself: it is not started again, and [`Exports::end`] or a sweep ends it.
    pub fn leave(&self, id: &str) {
        if let Some(entry) = self.forget(id) {
            lock(&entry).state = State::Removed;
        }
    }

    /// Ends the process of an export and takes away its files. None is no mistake.
    ///
    /// # Errors
    /// If something of it cannot be taken away.
    pub fn end(&self, id: &str) -> Result<(), Error> {
        let place = self.place(id);
        let watched = self.forget(id).map(|entry| std::mem::replace(&mut lock(&entry).state, State::Removed));
        let running = match watched {
            Some(State::Served { by, .. }) => Some(by),
            None if !place.directory().exists() => return Ok(()),
            _ => Running::find(&place)?,
        };
        if let Some(running) = running {
            running.end();
        }
        place.remove()
    }

    /// Ends an export as [`Exports::end`] does, unless a monitor is connected to one of its disks. None connects between
    /// the look and the end.
    ///
    /// # Errors
    /// If it cannot be looked, or as [`Exports::end`].
    pub fn end_unless_connected(&self, id: &str) -> Result<Ending, Error> {
        let place = self.place(id);
        let closed = match place.close() {
            Ok(None) => return Ok(Ending::Connected),
            Ok(closed) => closed,
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        // Without a process that says otherwise, what the last one said counts: its monitor waits for the next.
        let is_told = closed.is_some() && Running::find(&place)?.is_some();
        if !is_told && was_connected(&place)? {
            return Ok(Ending::Connected);
        }
        self.end(id)?;
        drop(closed);
        Ok(Ending::Ended)
    }

    /// Ends the exports that `is_known` does not know, which an earlier daemon left.
    ///
    /// # Errors
    /// If the directory cannot be read. What cannot be taken away is logged.
    pub fn sweep(&self, is_known: impl Fn(&str) -> bool) -> Result<(), Error> {
        let directory = &self.directory;
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(store::Error::io("read", directory))?,
        };
        for entry in entries {
            let name = entry.map_err(store::Error::io("read", directory))?.file_name();
            let Some(id) = name.to_str().filter(|id| !is_known(id)) else { continue };
            if let Err(error) = self.end(id) {
                tracing::warn!(%error, id, "what is left of an export cannot be taken away");
            }
        }
        Ok(())
    }

    fn place(&self, id: &str) -> Place {
        Place::new(self.directory.join(id))
    }

    fn forget(&self, id: &str) -> Option<Arc<Mutex<Entry>>> {
        self.running.get()?.shared.entries().remove(id)
    }

    /// What there is from the first export on.
    fn shared(&self) -> Result<&Shared, Error> {
        if self.running.get().is_none() {
            let started = Watched::start(self.directory.clone(), self.launch.clone())?;
            // Another may have been faster; then this one ends.
            let _ = self.running.set(started);
        }
        let running = self.running.get().map(|watched| &*watched.shared);
        running.ok_or_else(|| Error::Refused { reason: "nothing watches it".to_owned() })
    }
}

impl Watched {
    fn start(directory: PathBuf, launch: Launch) -> Result<Self, Error> {
        let changed = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(store::Error::io("watch the processes of", &directory))?;
        let (entries, is_ending) = (Mutex::default(), AtomicBool::new(false));
        let shared = Arc::new(Shared { directory, launch, entries, changed, is_ending });
        let watched = Arc::clone(&shared);
        let watcher = thread::Builder::new().name("exports".to_owned()).spawn(move || watched.watch());
        let watcher = watcher.map_err(store::Error::io("start a thread for", &shared.directory))?;
        Ok(Self { shared, watcher: Some(watcher) })
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.shared.is_ending.store(true, Ordering::Release);
        self.shared.wake();
        if let Some(watcher) = self.watcher.take() {
            // It logged its panic itself.
            let _ = watcher.join();
        }
    }
}

impl Shared {
    fn place(&self, id: &str) -> Place {
        Place::new(self.directory.join(id))
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Mutex<Entry>>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // It is full only if nobody has looked yet.
        let _ = rustix::io::write(&self.changed, &1_u64.to_ne_bytes());
    }

    fn ensure(&self, id: &str, entry: &mut Entry) -> Result<(), Error> {
        let running = match &entry.state {
            State::Served { .. } | State::Removed => return Ok(()),
            State::New | State::Waiting { .. } => match Running::find(&self.place(id))? {
                Some(running) => {
                    tracing::info!(id, pid = running.pid(), "an export goes on as it was");
                    running
                }
                None => self.start(id, &entry.wanted)?,
            },
        };
        entry.state = State::Served { by: running, since: Instant::now() };
        Ok(())
    }

    fn start(&self, id: &str, wanted: &Wanted) -> Result<Running, Error> {
        let place = self.place(id);
        let running = Running::start(&place, wanted, &self.launch)?;
        for role in Role::ALL {
            if !wanted.roles().any(|wanted| wanted == role) {
                place.remove_socket(role)?;
            }
        }
        tracing::info!(id, pid = running.pid(), profile = %wanted.owner.profile, key = %wanted.owner.key, "serving disks");
        Ok(running)
    }

    /// Waits for the ends of processes, and starts them again.
    fn watch(&self) {
        while !self.is_ending.load(Ordering::Acquire) {
            let entries: Vec<_> =
                self.entries().iter().map(|(id, entry)| (id.clone(), Arc::clone(entry))).collect();
            let mut served = Vec::new();
            let mut next = None;
            for (id, entry) in &entries {
                match &lock(entry).state {
                    State::Served { by, .. } => served.push((id, entry, by.clone())),
                    State::Waiting { until } => {
                        next = Some(next.map_or(*until, |next: Instant| next.min(*until)))
                    }
                    State::New | State::Removed => {}
                }
            }
            let ended = self.wait(served.iter().map(|(_, _, running)| running), next);
            for (id, entry, _) in
                served.iter().zip(ended).filter_map(|(served, ended)| ended.then_some(served))
            {
                self.note_end(id, &mut lock(entry));
            }
            let now = Instant::now();
            for (id, entry) in &entries {
                self.start_again(id, &mut lock(entry), now);
            }
        }
    }

    /// Waits until one of these ends, something changed, or it is time. Which have ended?
    fn wait<'r>(&self, processes: impl Iterator<Item = &'r Running>, until: Option<Instant>) -> Vec<bool> {
        let mut waited = vec![PollFd::new(&self.changed, PollFlags::IN)];
        waited.extend(processes.map(|running| PollFd::from_borrowed_fd(running.as_fd(), PollFlags::IN)));
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        // An interruption is as good as a change.
        let _ = poll(&mut waited, timeout.as_ref());
        let mut number = [0; 8];
        let _ = rustix::io::read(&self.changed, &mut number);
        waited.iter().skip(1).map(|process| !process.revents().is_empty()).collect()
    }

    fn note_end(&self, id: &str, entry: &mut Entry) {
        let State::Served { by, since } = &entry.state else { return };
        by.reap();
        entry.failures = if since.elapsed() < LONG { entry.failures + 1 } else { 0 };
        let pause = match entry.failures {
            0 | 1 => Duration::ZERO,
            more => FIRST_PAUSE.saturating_mul(1 << (more - 2).min(16)).min(LONGEST_PAUSE),
        };
        tracing::error!(
            id, pid = by.pid(), profile = %entry.wanted.owner.profile, key = %entry.wanted.owner.key,
            pause_s = pause.as_secs(), "a process that serves disks ended: it is started again"
        );
        entry.state = State::Waiting { until: Instant::now() + pause };
    }

    fn start_again(&self, id: &str, entry: &mut Entry, now: Instant) {
        if !matches!(&entry.state, State::Waiting { until } if *until <= now) {
            return;
        }
        if let Err(error) = self.ensure(id, entry) {
            tracing::error!(%error, id, "a process that serves disks cannot be started again");
            entry.failures = entry.failures.saturating_add(1);
            entry.state = State::Waiting { until: Instant::now() + LONGEST_PAUSE };
        }
    }
}

/// Whether a monitor was connected to one of the disks when the process wrote its numbers the last time.
fn was_connected(place: &Place) -> Result<bool, Error> {
    match tally::read(place) {
        Err(error) if error.is_not_found() => Ok(false),
        tally => Ok(tally?.disks.iter().any(tally::DiskTally::is_connected)),
    }
}

fn lock(entry: &Mutex<Entry>) -> MutexGuard<'_, Entry> {
    entry.lock().unwrap_or_else(PoisonError::into_inner)
}
