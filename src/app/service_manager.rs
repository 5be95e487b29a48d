//! What the service manager (systemd) is told: sd_notify(3).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{MissedTickBehavior, timeout};

/// Clients are answered from now on.
pub(super) fn ready() {
    send(&[NotifyState::Ready, NotifyState::Status("serving")]);
}

/// The daemon is on its way down.
pub(super) fn stopping() {
    send(&[NotifyState::Stopping, NotifyState::Status("finishing running calls")]);
}

/// Work that every call has to do too, so that only a daemon that answers gets through it. It may block, but
/// must not wait for a disk: a slow disk does not get faster by a restart.
#[derive(Clone)]
pub(super) struct Probe(Arc<dyn Fn() + Send + Sync>);

impl Probe {
    pub(super) fn new(work: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(work))
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").finish_non_exhaustive()
    }
}

/// A task that tells the service manager that the daemon lives. Dropping this ends it.
#[derive(Debug)]
pub(super) struct Heartbeat(Option<JoinHandle<()>>);

impl Heartbeat {
    /// Starts to beat at half the interval that the service manager allows, if it watches at all.
    pub(super) fn start(probe: Probe) -> Self {
        Self(sd_notify::watchdog_enabled().map(|allowed| tokio::spawn(beat(allowed / 2, probe, report))))
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// What a look at the daemon shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    /// The probe got through.
    Alive,
    /// The probe is not through after a whole interval.
    Late,
    /// The probe panicked.
    Broken,
}

/// Beats only when the probe has come back from a thread that may block, where every call does its work. So
/// the beat stops when no task gets a turn, when no such thread is free and when the probe hangs, and the
/// service manager restarts the daemon. A thread of its own would beat on.
async fn beat(interval: Duration, probe: Probe, tell: impl Fn(Sign)) {
    let interval = interval.max(Duration::from_millis(1));
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Probe(work) = probe.clone();
        let mut answer = spawn_blocking(move || work());
        let answered = match timeout(interval, &mut answer).await {
            Ok(answered) => answered,
            Err(_) => {
                tell(Sign::Late);
                // The same look goes on: one more of them would only wait behind it.
                answer.await
            }
        };
        tell(if answered.is_ok() { Sign::Alive } else { Sign::Broken });
    }
}

fn report(sign: Sign) {
    match sign {
        Sign::Alive => send(&[NotifyState::Watchdog]),
        Sign::Late => tracing::error!(
            "the records cannot be read: the service manager is not told that the daemon lives until they can"
        ),
        // The panic is in the log already.
        Sign::Broken => {}
    }
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;

    /// A beating heart and what it tells.
    struct Beating {
        heart: JoinHandle<()>,
        signs: UnboundedReceiver<Sign>,
    }

    impl Beating {
        fn start(probe: Probe) -> Self {
            let (sender, signs) = unbounded_channel();
            let tell = move |sign| sender.send(sign).expect("the test listens");
            Self { heart: tokio::spawn(beat(Duration::from_millis(1), probe, tell)), signs }
        }

        async fn next(&mut self) -> Sign {
            self.signs.recv().await.expect("the heart lives")
        }

        /// Waits until it beats, over the signs that came before.
        async fn until_alive(&mut self) {
            while self.next().await != Sign::Alive {}
        }
    }

    impl Drop for Beating {
        fn drop(&mut self) {
            self.heart.abort();
        }
    }

    #[tokio::test]
    async fn a_stuck_runtime_does_not_beat() {
        let mut beating = Beating::start(Probe::new(|| {}));
        beating.until_alive().await;
        while beating.signs.try_recv().is_ok() {}
        std::thread::sleep(Duration::from_millis(50));
        assert!(beating.signs.try_recv().is_err(), "nothing runs beside this test's thread");
        beating.until_alive().await;
    }

    #[tokio::test]
    async fn a_probe_that_hangs_stops_the_beat_until_it_comes_back() {
        let (release, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        // Each look hangs until it is released.
        let probe = Probe::new(move || {
            let _ = gate.lock().expect("no panic").recv();
        });
        let mut beating = Beating::start(probe);
        assert_eq!(beating.next().await, Sign::Late, "and not alive");
        assert!(beating.signs.try_recv().is_err(), "one hanging look is reported once");
        release.send(()).expect("the probe waits");
        assert_eq!(beating.next().await, Sign::Alive);
        assert_eq!(beating.next().await, Sign::Late);
    }

    #[test]
    fn without_a_free_thread_there_is_no_beat() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
        runtime.expect("a runtime").block_on(async {
            let (release, gate) = mpsc::channel::<()>();
            let busy = spawn_blocking(move || gate.recv());
            let mut beating = Beating::start(Probe::new(|| {}));
            assert_eq!(beating.next().await, Sign::Late);
            drop(release);
            busy.await.expect("no panic").expect_err("released by its drop");
            beating.until_alive().await;
        });
    }

    #[tokio::test]
    async fn a_probe_that_panics_is_no_beat() {
        let mut beating = Beating::start(Probe::new(|| panic!("poisoned")));
        let mut panics = 0;
        while panics < 2 {
            match beating.next().await {
                Sign::Broken => panics += 1,
                Sign::Late => {}
                Sign::Alive => panic!("nobody came back from the probe"),
            }
        }
    }
}
