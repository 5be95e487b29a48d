//! What goes on behind the calls, and does not outlast them.

use std::fmt;

/// Ends work that no call does, so that no call waits for it either once the daemon is to end.
pub(super) struct Background(Box<dyn FnOnce() + Send>);

impl Background {
    /// Work that `stop` ends, at once and without waiting.
    pub(super) fn new(stop: impl FnOnce() + Send + 'static) -> Self {
        Self(Box::new(stop))
    }

    /// Ends it.
    pub(super) fn stop(self) {
        (self.0)();
    }
}

impl fmt::Debug for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Background").finish_non_exhaustive()
    }
}
