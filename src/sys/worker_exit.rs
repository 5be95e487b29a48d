//! Events that end the workers of the crate vhost-user-backend, without the descriptor that it leaves open for each.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use vmm_sys_util::event::{EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier};

/// Descriptors that workers wait on, closed with this value.
///
/// `VhostUserBackend::exit_event` hands over an [`EventConsumer`]. Version 0.24 of the crate takes the descriptor out
/// of it as a number (`into_raw_fd` in `VringEpollHandler::new`) and closes it never: a process that serves one
/// connection after the other would run out of them. This keeps the numbers.
pub struct WorkerExits {
    /// For workers that have not started yet.
    ready: Mutex<Vec<(EventConsumer, EventNotifier)>>,
    /// What is the crate's, and would never be closed.
    given: Mutex<Vec<RawFd>>,
}

impl WorkerExits {
    /// Events for so many workers.
    ///
    /// # Errors
    /// If there are no more descriptors.
    pub fn new(workers: usize) -> io::Result<Self> {
        let event = |_| new_event_consumer_and_notifier(EventFlag::NONBLOCK | EventFlag::CLOEXEC);
        let ready = (0..workers).map(event).collect::<io::Result<_>>()?;
        Ok(Self { ready: Mutex::new(ready), given: Mutex::default() })
    }

    /// The event for one worker, which `VhostUserBackend::exit_event` has to return, and nobody else may have. None if
    /// there are more workers than was said.
    pub fn take(&self) -> Option<(EventConsumer, EventNotifier)> {
        let event = self.ready.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        self.given.lock().unwrap_or_else(PoisonError::into_inner).push(event.0.as_raw_fd());
        Some(event)
    }
}

impl Drop for WorkerExits {
    /// The workers have ended by now: they hold the backend, and with it this value.
    fn drop(&mut self) {
        for number in self.given.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // SAFETY: the crate gave up the ownership of this descriptor the moment that it got it, and closes it
            // nowhere; its version is fixed in the workspace's Cargo.toml, and a test counts descriptors.
            drop(unsafe { OwnedFd::from_raw_fd(number) });
        }
    }
}

impl fmt::Debug for WorkerExits {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("WorkerExits").finish_non_exhaustive()
    }
}
