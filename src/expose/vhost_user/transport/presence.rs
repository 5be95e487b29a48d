//! Whether a monitor is connected, for other processes to know at any moment.

use std::fs::File;
use std::io;

use crate::sys::locks;

/// A file that has a lock for reading on it as long as a monitor is connected. Who takes one for writing knows that none
/// is, and none connects before that is given up: it waits in the socket.
#[derive(Debug)]
pub(super) struct Presence(File);

/// A monitor is connected. Dropping this says that it has gone.
#[derive(Debug)]
pub(super) struct Present<'p>(&'p File);

impl Presence {
    pub(super) const fn new(file: File) -> Self {
        Self(file)
    }

    /// Says that a monitor is connected, as soon as nobody forbids it.
    pub(super) fn begin(&self) -> io::Result<Present<'_>> {
        locks::share(&self.0)?;
        Ok(Present(&self.0))
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        if let Err(error) = locks::release(self.0) {
            tracing::error!(%error, "it cannot be told that a monitor has gone: end this process, it is started again");
        }
    }
}
