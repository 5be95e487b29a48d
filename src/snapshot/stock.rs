//! Directories that lie ready for the next snapshots: `ROOT/ready`.
//!
//! What a new snapshot starts with is nearly always what the one before it started with, and to make it is most of what a
//! Prepare does besides its transaction. So it is made in advance, behind the caller's back: a Prepare writes its record into one
//! that is ready, and renames it.
//!
//! What is left there by a kill is nobody's, and deleted by the next start.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::Error;
use super::directory::Content;
use crate::expose::block::BlockTemplates;
use crate::store;
use crate::store::staging::{Scratch, StagingArea};

/// The directory in the root that they lie in.
pub(super) const READY_NAME: &str = "ready";

/// Directories that are kept ready with the same content: as many as containers are commonly started at once.
const DEPTH: usize = 4;

/// Different contents that are kept ready. Those of a node's images are mostly the same.
const MOST_CONTENTS: usize = 4;

/// Gives directories with what a new snapshot starts with. Dropping it deletes those that are ready.
#[derive(Debug)]
pub(super) struct Stock {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    area: StagingArea,
    templates: BlockTemplates,
    shelves: Mutex<Shelves>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Shelves {
    /// The one that was used last at the end.
    contents: VecDeque<(Content, Vec<Scratch>)>,
    /// Of contents that were not asked for in a while.
    unwanted: Vec<Scratch>,
    is_closed: bool,
}

impl Stock {
    /// Starts the thread that makes them. They lie in `area`, on the file system that holds the final places.
    ///
    /// # Errors
    /// If no thread can be made.
    pub(super) fn start(area: StagingArea) -> Result<Self, store::Error> {
        let (templates, shelves, changed) = (BlockTemplates::new(), Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { area, templates, shelves, changed });
        let worker = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("stock".to_owned())
            .spawn(move || worker.run())
            .map_err(store::Error::io("start a thread for", shared.area.path()))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// A directory with this content, if need be a new one in `staging`.
    ///
    /// # Errors
    /// As [`Content::fill`].
    pub(super) fn take(&self, content: &Content, staging: &StagingArea) -> Result<Scratch, Error> {
        let ready = self.shared.lock().of(content).and_then(Vec::pop);
        ready.map_or_else(|| content.fill(&self.shared.templates, staging), Ok)
    }

    /// Has directories with this content made, as it was asked for just now.
    pub(super) fn replenish(&self, content: Content) {
        let mut shelves = self.shared.lock();
        let known = shelves.contents.iter().position(|(known, _)| *known == content);
        let used = known.and_then(|index| shelves.contents.remove(index));
        shelves.contents.push_back(used.unwrap_or_else(|| (content, Vec::new())));
        // Here and not in the thread: images choose contents, and it may be slow, or gone.
        if shelves.contents.len() > MOST_CONTENTS
            && let Some((_, ready)) = shelves.contents.pop_front()
        {
            shelves.unwanted.extend(ready);
        }
        self.shared.changed.notify_one();
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.changed.notify_one();
        // A panic of the thread is in the log.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// What there is to do.
enum Task {
    Make(Content),
    Delete(Vec<Scratch>),
}

impl Shelves {
    fn of(&mut self, content: &Content) -> Option<&mut Vec<Scratch>> {
        self.contents.iter_mut().find(|(known, _)| known == content).map(|(_, ready)| ready)
    }

    fn next_task(&mut self) -> Option<Task> {
        if !self.unwanted.is_empty() {
            return Some(Task::Delete(mem::take(&mut self.unwanted)));
        }
        let wanting = self.contents.iter().rev().find(|(_, ready)| ready.len() < DEPTH);
        wanting.map(|(content, _)| Task::Make(content.clone()))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Shelves> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut shelves = self.lock();
        while !shelves.is_closed {
            let Some(task) = shelves.next_task() else {
                shelves = self.changed.wait(shelves).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(shelves);
            match task {
                Task::Delete(ready) => drop(ready),
                Task::Make(content) => self.make(&content),
            }
            shelves = self.lock();
        }
    }

    /// Makes one. If that fails there will be none until they are asked for again: who asks makes it himself, and is told.
    fn make(&self, content: &Content) {
        let made = content.fill(&self.templates, &self.area);
        let mut shelves = self.lock();
        match made {
            Ok(scratch) => match shelves.of(content) {
                Some(ready) => ready.push(scratch),
                None => shelves.unwanted.push(scratch),
            },
            Err(error) => {
                tracing::debug!(%error, "no directory can be made in advance");
                shelves.contents.retain(|(known, _)| known != content);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::layer::RootAttributes;

    struct Place {
        root: tempfile::TempDir,
        stock: Stock,
        staging: StagingArea,
    }

    impl Place {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            for name in ["ready", "staging"] {
                fs::create_dir(root.path().join(name)).unwrap();
            }
            let stock = Stock::start(StagingArea::new(root.path().join("ready"))).unwrap();
            let staging = StagingArea::new(root.path().join("staging"));
            Self { root, stock, staging }
        }

        fn ready(&self) -> usize {
            count(&self.root.path().join("ready"))
        }

        fn wait_for(&self, ready: usize) {
            let begun = Instant::now();
            while self.ready() != ready {
                assert!(begun.elapsed() < Duration::from_secs(20), "{} are ready", self.ready());
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn count(directory: &Path) -> usize {
        fs::read_dir(directory).unwrap().count()
    }

    fn upper(mode: u16) -> Content {
        Content::Upper(RootAttributes { mode, ..RootAttributes::default() })
    }

    #[test]
    fn the_first_is_made_when_it_is_asked_for_and_the_next_lies_ready() {
        let place = Place::new();
        let first = place.stock.take(&upper(0o755), &place.staging).unwrap();
        assert!(first.path().starts_with(place.staging.path()));
        place.stock.replenish(upper(0o755));
        place.wait_for(DEPTH);
        let next = place.stock.take(&upper(0o755), &place.staging).unwrap();
        assert!(next.path().starts_with(place.root.path().join("ready")));
        assert!(next.path().join("fs").is_dir());
        let other = place.stock.take(&upper(0o700), &place.staging).unwrap();
        assert!(other.path().starts_with(place.staging.path()));
    }

    #[test]
    fn what_was_not_asked_for_in_a_while_is_deleted() {
        let place = Place::new();
        for mode in 0..6 {
            place.stock.replenish(upper(0o700 + mode));
            assert!(place.stock.shared.lock().contents.len() <= MOST_CONTENTS);
        }
        place.wait_for(DEPTH * MOST_CONTENTS);
        let oldest = place.stock.take(&upper(0o700), &place.staging).unwrap();
        assert!(oldest.path().starts_with(place.staging.path()));
    }

    #[test]
    fn what_cannot_be_made_in_advance_is_made_and_fails_when_it_is_asked_for() {
        let place = Place::new();
        fs::remove_dir(place.root.path().join("ready")).unwrap();
        place.stock.replenish(upper(0o755));
        let begun = Instant::now();
        while !place.stock.shared.lock().contents.is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(20));
            thread::sleep(Duration::from_millis(1));
        }
        assert!(place.stock.take(&upper(0o755), &place.staging).is_ok());
        fs::remove_dir(place.staging.path()).unwrap();
        assert!(place.stock.take(&upper(0o755), &place.staging).is_err());
    }

    #[test]
    fn nothing_stays_when_it_ends() {
        let place = Place::new();
        place.stock.replenish(upper(0o755));
        place.wait_for(DEPTH);
        let Place { root, stock, .. } = place;
        drop(stock);
        assert_eq!(count(&root.path().join("ready")), 0);
    }
}
