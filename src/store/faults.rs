//! A disk for tests that fails, or is looked at, at chosen operations.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::ops::{Bound, Range};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use redb::backends::FileBackend;
use redb::{BackendError, Builder, Database, DatabaseError, StorageBackend};

use super::Medium;

type BackendIoError = io::Error;
type Observer = Box<dyn FnMut() + Send>;

/// What happens to the operations that change the file: writes, truncations and syncs.
#[derive(Default)]
pub(crate) struct Script {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    done: u64,
    failing: Range<u64>,
    observer: Option<Observer>,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

impl Script {
    /// Counts operations from zero and lets those in `failing` fail without effect.
    pub(crate) fn fail(&self, failing: Range<u64>) {
        let mut state = self.state.lock().unwrap();
        state.done = 0;
        state.failing = failing;
    }

    /// Calls `observer` before and after each operation.
    pub(crate) fn observe(&self, observer: impl FnMut() + Send + 'static) {
        self.state.lock().unwrap().observer = Some(Box::new(observer));
    }

    /// Ends what [`Script::observe`] began.
    pub(crate) fn ignore(&self) {
        self.state.lock().unwrap().observer = None;
    }

    /// Operations since the last [`Script::fail`].
    pub(crate) fn done(&self) -> u64 {
        self.state.lock().unwrap().done
    }

    fn run(&self, operation: impl FnOnce() -> Result<(), BackendIoError>) -> Result<(), BackendIoError> {
        let mut state = self.state.lock().unwrap();
        state.done += 1;
        if state.failing.contains(&(state.done - 1)) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        if let Some(observer) = &mut state.observer {
            observer();
        }
        operation()?;
        if let Some(observer) = &mut state.observer {
            observer();
        }
        Ok(())
    }
}

/// A file behind a [`Script`].
#[derive(Debug)]
pub(crate) struct FaultyMedium {
    path: PathBuf,
    script: Arc<Script>,
}

impl FaultyMedium {
    pub(crate) fn new(path: PathBuf) -> (Self, Arc<Script>) {
        let script = Arc::new(Script::default());
        (Self { path, script: Arc::clone(&script) }, script)
    }
}

impl Medium for FaultyMedium {
    fn path(&self) -> &Path {
        &self.path
    }

    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.path)?;
        let file = FileBackend::new(file)?;
        builder.create_with_backend(FaultyBackend { file, script: Arc::clone(&self.script) })
    }
}

#[derive(Debug)]
struct FaultyBackend {
    file: FileBackend,
    script: Arc<Script>,
}

impl StorageBackend for FaultyBackend {
    fn len(&self) -> Result<u64, BackendIoError> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), BackendIoError> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), BackendIoError> {
        self.script.run(|| self.file.set_len(len))
    }

    fn sync_data(&self) -> Result<(), BackendIoError> {
        self.script.run(|| self.file.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), BackendIoError> {
        self.script.run(|| self.file.write(offset, data))
    }

    fn close(&self) -> Result<(), BackendIoError> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }
}
