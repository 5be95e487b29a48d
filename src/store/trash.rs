//! Old directories are renamed out of sight and deleted behind the caller's back.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::staging::StagingArea;
use super::{Error, tree};

/// Unmounts what the daemon itself mounted on or in a directory that is about to be deleted. What it
/// cannot unmount keeps the directory.
pub type Detach = fn(&Path) -> Result<(), Error>;

/// A thread that deletes what it is given, in order.
///
/// Dropping the trash stops the thread early. What it did not get to stays in the staging area and
/// is swept by the next start.
#[derive(Debug)]
pub struct Trash {
    area: StagingArea,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    detach: Detach,
    queue: Mutex<Queue>,
    changed: Condvar,
    stop: AtomicBool,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<PathBuf>,
    /// Jobs ever put in, and jobs ever done or given up.
    submitted: u64,
    finished: u64,
    /// What could not be deleted, and why.
    undeleted: Vec<(PathBuf, String)>,
}

impl Trash {
    /// Starts the thread. Discarded directories go to `area` under a name that starts with `trash-`.
    ///
    /// # Errors
    /// If no thread can be made.
    pub fn start(area: StagingArea, detach: Detach) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            detach,
            queue: Mutex::default(),
            changed: Condvar::new(),
            stop: AtomicBool::new(false),
        });
        let worker = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("trash".to_owned())
            .spawn(move || worker.run())
            .map_err(Error::io("start a thread for", area.path()))?;
        Ok(Self { area, shared, thread: Some(thread) })
    }

    /// Renames `path` into the staging area and has it deleted. Nothing at `path` is no error.
    ///
    /// # Errors
    /// If it cannot be renamed: it is still at `path`, for the next start to sweep.
    pub fn discard(&self, path: &Path) -> Result<(), Error> {
        let place = self.area.unused("trash-")?;
        match fs::rename(path, &place).map_err(Error::io("move to the trash", path)) {
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
            Ok(()) => {
                self.delete(place);
                Ok(())
            }
        }
    }

    /// Has `path` deleted where it is. Nothing at `path` is no error.
    pub fn delete(&self, path: PathBuf) {
        let mut queue = self.shared.lock();
        queue.submitted += 1;
        queue.waiting.push_back(path);
        self.shared.changed.notify_all();
    }

    /// Tries once more what could not be deleted, and waits until all that was given up to now is done.
    ///
    /// # Errors
    /// [`Error::Undeleted`] if something is still there.
    pub fn empty(&self) -> Result<(), Error> {
        let mut queue = self.shared.lock();
        let retry: Vec<PathBuf> = queue.undeleted.drain(..).map(|(path, _)| path).collect();
        queue.submitted += retry.len() as u64;
        queue.waiting.extend(retry);
        self.shared.changed.notify_all();
        let target = queue.submitted;
        while queue.finished < target && !self.shared.stopped() {
            queue = self.shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.outcome()
    }
}

impl Queue {
    fn outcome(&self) -> Result<(), Error> {
        match self.undeleted.first() {
            None => Ok(()),
            Some((_, first)) => Err(Error::Undeleted { count: self.undeleted.len(), first: first.clone() }),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Unmounts and deletes. A panic, which is in the log, keeps this one thing: were it to end the thread, nothing
    /// would be deleted any more, and whoever waits would wait forever.
    fn take_away(&self, path: &Path) -> Result<(), Error> {
        let work = || (self.detach)(path).and_then(|()| tree::remove(path, &self.stop));
        let panicked =
            |_| Err(Error::io("delete", path)(io::Error::other("the thread panicked, see the log")));
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(panicked)
    }

    fn run(&self) {
        let mut queue = self.lock();
        while !self.stopped() {
            let Some(path) = queue.waiting.pop_front() else {
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(queue);
            let result = self.take_away(&path);
            queue = self.lock();
            queue.finished += 1;
            if let Err(error) = result {
                if !self.stopped() {
                    tracing::warn!(%error, path = %path.display(), "cannot delete what is in the trash");
                }
                queue.undeleted.push((path, error.to_string()));
            }
            self.changed.notify_all();
        }
    }
}

impl Drop for Trash {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // The thread looks at the flag under the lock before it sleeps.
        drop(self.shared.lock());
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that empties the trash panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::skipped::skip;

    fn started(root: &Path) -> Trash {
        let staging = root.join("staging");
        fs::create_dir(&staging).unwrap();
        Trash::start(StagingArea::new(staging), |_| Ok(())).unwrap()
    }

    #[test]
    fn what_is_discarded_is_gone_at_once_and_deleted_once_empty() {
        let root = tempfile::tempdir().unwrap();
        let trash = started(root.path());
        let victim = root.path().join("victim");
        fs::create_dir_all(victim.join("deep/deeper")).unwrap();
        trash.discard(&victim).unwrap();
        assert!(!victim.exists());
        trash.empty().unwrap();
        assert_eq!(fs::read_dir(root.path().join("staging")).unwrap().count(), 0);
    }

    #[test]
    fn nothing_to_discard_is_no_error() {
        let root = tempfile::tempdir().unwrap();
        let trash = started(root.path());
        trash.discard(&root.path().join("nothing")).unwrap();
        trash.delete(root.path().join("nothing/below"));
        trash.empty().unwrap();
    }

    #[test]
    fn what_cannot_be_deleted_is_reported_until_it_can() {
        let root = tempfile::tempdir().unwrap();
        let trash = started(root.path());
        let victim = root.path().join("victim");
        let point = victim.join("point");
        fs::create_dir_all(&point).unwrap();
        if let Err(error) = rustix::mount::mount_bind(root.path(), &point) {
            skip(
                "what_cannot_be_deleted_is_reported_until_it_can",
                format!("a bind mount needs CAP_SYS_ADMIN: {error}"),
            );
            return;
        }
        trash.delete(victim.clone());
        let first = trash.empty();
        let second = trash.empty();
        crate::unmounting::unmount(&point);
        assert!(matches!(first, Err(Error::Undeleted { count: 1, .. })), "{first:?}");
        assert!(matches!(second, Err(Error::Undeleted { count: 1, .. })), "{second:?}");
        trash.empty().unwrap();
        assert!(!victim.exists());
    }

    #[test]
    fn what_cannot_be_detached_is_not_deleted() {
        let root = tempfile::tempdir().unwrap();
        let staging = root.path().join("staging");
        fs::create_dir(&staging).unwrap();
        // A marker file stands for a mount in use.
        let detach: Detach = |path| match path.join("busy").exists() {
            true => Err(Error::io("unmount", path)(std::io::Error::from(rustix::io::Errno::BUSY))),
            false => Ok(()),
        };
        let trash = Trash::start(StagingArea::new(staging), detach).unwrap();
        let victim = root.path().join("victim");
        fs::create_dir(&victim).unwrap();
        fs::write(victim.join("busy"), "").unwrap();
        trash.delete(victim.clone());
        assert!(trash.empty().is_err());
        assert!(victim.join("busy").exists());
        fs::remove_file(victim.join("busy")).unwrap();
        trash.empty().unwrap();
        assert!(!victim.exists());
    }

    #[test]
    fn a_panic_keeps_one_thing_and_all_else_is_deleted() {
        let root = tempfile::tempdir().unwrap();
        let staging = root.path().join("staging");
        fs::create_dir(&staging).unwrap();
        let detach: Detach = |path| match path.ends_with("broken") {
            true => panic!("broken"),
            false => Ok(()),
        };
        let trash = Trash::start(StagingArea::new(staging), detach).unwrap();
        let (broken, victim) = (root.path().join("broken"), root.path().join("victim"));
        for path in [&broken, &victim] {
            fs::create_dir(path).unwrap();
            trash.delete(path.clone());
        }
        assert!(matches!(trash.empty(), Err(Error::Undeleted { count: 1, .. })));
        assert!(broken.exists() && !victim.exists());
    }

    #[test]
    fn dropping_the_trash_ends_its_thread() {
        let root = tempfile::tempdir().unwrap();
        let trash = started(root.path());
        let shared = Arc::downgrade(&trash.shared);
        drop(trash);
        assert!(shared.upgrade().is_none());
    }
}
