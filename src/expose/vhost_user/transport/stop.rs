//! The end of an export, from outside.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use vhost_user_backend::ShutdownHandle;

use crate::expose::vhost_user::Error;

/// Ends an export that is being served, from any thread. Copies are of the same.
#[derive(Clone)]
pub struct Stop(Arc<Shared>);

struct Shared {
    /// Readable from the request on.
    event: OwnedFd,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_requested: bool,
    /// Cuts the connection that is being served.
    connection: Option<ShutdownHandle>,
}

impl Stop {
    /// One that was not requested yet.
    ///
    /// # Errors
    /// If there are no more descriptors.
    pub fn new() -> Result<Self, Error> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let event = event.map_err(Error::socket("make an event that ends an export"))?;
        Ok(Self(Arc::new(Shared { event, state: Mutex::default() })))
    }

    /// Asks [`Export::serve`](super::Export::serve) to return, whether a monitor is connected or not. Requests that
    /// are being answered are completed first.
    pub fn request(&self) {
        let mut state = self.state();
        state.is_requested = true;
        if let Some(connection) = state.connection.take() {
            connection.shutdown();
        }
        // It fails only if it is readable already.
        let _ = rustix::io::write(&self.0.event, &1_u64.to_ne_bytes());
    }

    /// Whether it was requested.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.state().is_requested
    }

    /// What is readable from the request on.
    pub(super) fn event(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }

    /// This connection is being served from now on.
    pub(super) fn begin(&self, connection: ShutdownHandle) {
        let mut state = self.state();
        if state.is_requested {
            connection.shutdown();
        } else {
            state.connection = Some(connection);
        }
    }

    /// The connection has ended.
    pub(super) fn end(&self) {
        self.state().connection = None;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Stop").field("is_requested", &self.is_requested()).finish_non_exhaustive()
    }
}
