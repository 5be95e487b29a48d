//! What the service manager (systemd) is told: sd_notify(3).

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

/// Clients are answered from now on.
pub(super) fn ready() {
    send(&[NotifyState::Ready, NotifyState::Status("serving")]);
}

/// The daemon is on its way down.
pub(super) fn stopping() {
    send(&[NotifyState::Stopping, NotifyState::Status("finishing running calls")]);
}

/// A task that tells the service manager that the daemon lives. Dropping this ends it.
#[derive(Debug)]
pub(super) struct Heartbeat(Option<JoinHandle<()>>);

impl Heartbeat {
    /// Starts to beat at half the interval that the service manager allows, if it watches at all.
    pub(super) fn start() -> Self {
        Self(
            sd_notify::watchdog_enabled()
                .map(|allowed| tokio::spawn(beat(allowed / 2, || send(&[NotifyState::Watchdog])))),
        )
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// Beats as a task among those that answer calls: where no task gets a turn any more, the beat
/// stops, and the service manager restarts the daemon. A thread of its own would beat on.
async fn beat(interval: Duration, pulse: impl Fn()) {
    let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        pulse();
    }
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_stuck_runtime_does_not_beat() {
        let interval = Duration::from_millis(1);
        let beats = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&beats);
        let heart = tokio::spawn(beat(interval, move || {
            counted.fetch_add(1, Ordering::SeqCst);
        }));
        while beats.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        let before = beats.load(Ordering::SeqCst);
        std::thread::sleep(interval * 50);
        assert_eq!(beats.load(Ordering::SeqCst), before, "nothing runs beside this test's thread");
        while beats.load(Ordering::SeqCst) == before {
            tokio::task::yield_now().await;
        }
        heart.abort();
    }
}
