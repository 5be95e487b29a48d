//! Whether a thread looks at its queue for a while before it sleeps.
//!
//! A guest that asks for one thing at a time waits for two wake-ups with each: ours by its notification, and its own by
//! ours. While we look at the ring ourselves, the first is saved. It costs the processor as long as nothing comes, so it
//! is done only where requests followed closely upon one another, and ever more rarely where that was in vain: a queue
//! that is idle costs nothing, and one whose requests come a little too late next to nothing.
//! `docs/decisions/look-before-sleep.md` has the figures.

use std::hint;
use std::time::{Duration, Instant};

/// Longest time that a thread looks at its ring without a request.
const LONGEST_LOOK: Duration = Duration::from_micros(50);

/// Longest time from one request to the next after which looking may have helped. It includes our own wake-up, which is
/// what looking saves.
const SHORT_PAUSE: Duration = Duration::from_micros(120);

/// Most short pauses in a row that are asked for before the next attempt.
const MOST_PAUSES: u32 = 1 << 12;

/// Turns of an empty loop between two looks: some tenths of a microsecond.
const SPINS: u32 = 16;

/// What was learned of one queue.
#[derive(Clone, Debug)]
pub(super) struct Polling {
    /// When the thread went to sleep.
    asleep: Option<Instant>,
    /// Pauses in a row that were short.
    short: u32,
    /// How many it takes until looking is worth an attempt.
    needed: u32,
}

impl Default for Polling {
    fn default() -> Self {
        Self { asleep: None, short: 0, needed: 1 }
    }
}

impl Polling {
    /// The thread was woken by a request.
    pub(super) fn woken(&mut self, now: Instant) {
        let is_short = self.asleep.take().is_some_and(|since| now.duration_since(since) <= SHORT_PAUSE);
        self.short = if is_short { self.short.saturating_add(1) } else { 0 };
    }

    /// The thread will sleep.
    pub(super) fn sleeps(&mut self, now: Instant) {
        self.asleep = Some(now);
    }

    /// Looks until a request is there, and returns whether it came soon enough. Returns at once where requests are not
    /// known to follow closely.
    pub(super) fn look<E>(&mut self, mut is_there: impl FnMut() -> Result<bool, E>) -> Result<bool, E> {
        if self.short < self.needed {
            return Ok(false);
        }
        let begun = Instant::now();
        while begun.elapsed() < LONGEST_LOOK {
            if is_there()? {
                self.needed = (self.needed / 2).max(1);
                return Ok(true);
            }
            // The ring belongs to others between two looks.
            (0..SPINS).for_each(|_| hint::spin_loop());
        }
        self.short = 0;
        self.needed = (self.needed * 2).min(MOST_PAUSES);
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pause of this length, from one request to the next.
    fn pause(polling: &mut Polling, length: Duration) {
        let now = Instant::now();
        polling.sleeps(now);
        polling.woken(now + length);
    }

    /// Whether the ring is looked at before the thread sleeps.
    fn looks(polling: &mut Polling, comes: bool) -> bool {
        let mut looks = 0;
        let came = polling.look(|| {
            looks += 1;
            Ok::<_, ()>(comes)
        });
        assert_eq!(came, Ok(looks > 0 && comes));
        looks > 0
    }

    #[test]
    fn an_idle_queue_is_not_looked_at() {
        let mut polling = Polling::default();
        assert!(!looks(&mut polling, true));
        for _ in 0..10 {
            pause(&mut polling, SHORT_PAUSE + Duration::from_nanos(1));
            assert!(!looks(&mut polling, true));
        }
    }

    #[test]
    fn requests_that_follow_closely_are_looked_for_until_one_does_not_come() {
        let mut polling = Polling::default();
        pause(&mut polling, SHORT_PAUSE);
        for _ in 0..10 {
            assert!(looks(&mut polling, true));
        }
        assert!(looks(&mut polling, false));
        assert!(!looks(&mut polling, true));
    }

    #[test]
    fn attempts_in_vain_become_rare_and_those_that_help_frequent_again() {
        let mut polling = Polling::default();
        let mut attempts = 0;
        for _ in 0..10_000 {
            pause(&mut polling, SHORT_PAUSE);
            attempts += u32::from(looks(&mut polling, false));
        }
        assert!((10..20).contains(&attempts), "{attempts}");
        (0..MOST_PAUSES).for_each(|_| pause(&mut polling, SHORT_PAUSE));
        (0..20).for_each(|_| assert!(looks(&mut polling, true)));
        assert!(looks(&mut polling, false));
        (0..2).for_each(|_| pause(&mut polling, SHORT_PAUSE));
        assert!(looks(&mut polling, true));
    }

    #[test]
    fn an_error_of_the_ring_ends_the_look() {
        let mut polling = Polling::default();
        pause(&mut polling, Duration::ZERO);
        assert_eq!(polling.look(|| Err(7)), Err(7));
    }
}
