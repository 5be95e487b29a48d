//! Whether a thread lets requests gather before it answers them.
//!
//! A guest whose processors share ours with us is interrupted by each of our answers, and we by each of its requests.
//! Where both are busy, to wait for a moment and then answer all that came is quicker for it; where it asks for one thing at a
//! time, or processors are free, it only costs. That depends on the guest, on its load and on ours, so both ways are
//! tried for some requests, and the quicker is kept until the next trial. One that was lost is repeated ever more rarely.
//! `docs/decisions/requests-gather.md` has the figures.

use std::time::{Duration, Instant};

/// How long requests gather. The kernel adds its timer slack, 50 microseconds.
const GATHER: Duration = Duration::from_micros(60);

/// Requests by which a way is judged.
const WINDOW: u32 = 128;

/// Wake-ups after which gathering must have brought more than one request each.
const FEW_WAKES: u32 = 16;

/// A guest that asks for nothing for so long has other things to do, and its next request is answered at once.
const LONG_PAUSE: Duration = Duration::from_millis(10);

/// Windows between two trials: at first, and at most.
const FEWEST_BETWEEN: u32 = 4;
const MOST_BETWEEN: u32 = 1 << 6;

/// What was learned of one queue.
#[derive(Clone, Debug, Default)]
pub(super) struct Gathering {
    way: Way,
    /// While the way is on trial: what a window took in the other.
    to_beat: Option<Duration>,
    window: Window,
    /// When the last request was answered.
    answered: Option<Instant>,
    /// Windows until the next trial.
    until_trial: u32,
    between: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Way {
    #[default]
    AtOnce,
    Gathered,
}

/// Requests that were answered in one way.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    /// The first wake-up.
    begun: Option<Instant>,
    wakes: u32,
    /// How often something was found.
    batches: u32,
    requests: u32,
}

impl Gathering {
    /// The thread was woken by a request: how long it waits before it answers.
    pub(super) fn woken(&mut self, now: Instant) -> Option<Duration> {
        if self.answered.is_some_and(|last| now.duration_since(last) > LONG_PAUSE) {
            self.pause();
        }
        self.window.begun.get_or_insert(now);
        // A hostile guest may wake us without asking for anything.
        self.window.wakes = self.window.wakes.saturating_add(1);
        (self.way == Way::Gathered).then_some(GATHER)
    }

    /// So many requests were answered.
    pub(super) fn answered(&mut self, requests: usize, now: Instant) {
        self.answered = Some(now);
        let window = &mut self.window;
        let Some(begun) = window.begun else { return };
        window.batches = window.batches.saturating_add(1);
        let took = now.duration_since(begun);
        window.requests = window.requests.saturating_add(u32::try_from(requests).unwrap_or(u32::MAX));
        let is_alone = window.wakes >= FEW_WAKES && window.requests / 2 < window.wakes;
        let is_over = window.requests >= WINDOW;
        // Who never asks for two things at a time has nothing that could gather, and is not tried with.
        let is_due = self.until_trial == 0 && (self.way == Way::Gathered || window.has_several());
        match self.to_beat {
            _ if self.way == Way::Gathered && is_alone => self.lose(),
            Some(to_beat) if took >= to_beat => self.lose(),
            // By a tenth: what is about the same is better left as it is.
            Some(to_beat) if is_over && took * 10 < to_beat * 9 => {
                self.between = FEWEST_BETWEEN;
                self.keep(self.way);
            }
            Some(_) if is_over => self.lose(),
            None if is_over && is_due => self.begin(self.way.other(), Some(took)),
            None if is_over => {
                self.until_trial = self.until_trial.saturating_sub(1);
                self.begin(self.way, None);
            }
            _ => {}
        }
    }

    /// Goes on with the next request as if nothing were known, but for what is worth a trial soon.
    fn pause(&mut self) {
        if self.way == Way::Gathered {
            self.until_trial = 0;
        }
        self.begin(Way::AtOnce, None);
    }

    /// The other way is the better one.
    fn lose(&mut self) {
        self.between = (self.between * 2).clamp(FEWEST_BETWEEN, MOST_BETWEEN);
        self.keep(self.way.other());
    }

    fn keep(&mut self, way: Way) {
        self.until_trial = self.between;
        self.begin(way, None);
    }

    fn begin(&mut self, way: Way, to_beat: Option<Duration>) {
        *self = Self { way, to_beat, window: Window::default(), ..*self };
    }
}

impl Window {
    /// Whether some requests came with others.
    const fn has_several(&self) -> bool {
        self.requests > self.batches.saturating_add(self.batches / 10)
    }
}

impl Way {
    const fn other(self) -> Self {
        match self {
            Self::AtOnce => Self::Gathered,
            Self::Gathered => Self::AtOnce,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A guest that has requests answered, so many with each wake-up, and the time that passes.
    struct Scene {
        gathering: Gathering,
        now: Instant,
        gathered: u32,
    }

    impl Scene {
        fn new() -> Self {
            Self { gathering: Gathering::default(), now: Instant::now(), gathered: 0 }
        }

        /// One wake-up. `at_once` and `gathered` are what comes with one in either way, and how long it takes.
        fn wake(&mut self, at_once: (usize, u64), gathered: (usize, u64)) {
            let (requests, micros) = match self.gathering.woken(self.now) {
                None => at_once,
                Some(_) => {
                    self.gathered += 1;
                    gathered
                }
            };
            self.now += Duration::from_micros(micros);
            self.gathering.answered(requests, self.now);
        }

        fn run(&mut self, wakes: u32, at_once: (usize, u64), gathered: (usize, u64)) -> u32 {
            self.gathered = 0;
            (0..wakes).for_each(|_| self.wake(at_once, gathered));
            self.gathered
        }
    }

    #[test]
    fn where_many_come_while_it_waits_they_gather() {
        let mut scene = Scene::new();
        scene.run(1000, (2, 400), (8, 1000));
        assert!(scene.run(1000, (2, 400), (8, 1000)) > 700, "{}", scene.gathered);
    }

    #[test]
    fn where_it_takes_longer_they_do_not() {
        let mut scene = Scene::new();
        scene.run(10_000, (8, 50), (16, 150));
        assert!(scene.run(10_000, (8, 50), (16, 150)) < 100, "{}", scene.gathered);
    }

    #[test]
    fn one_at_a_time_is_answered_at_once() {
        let mut scene = Scene::new();
        assert_eq!(scene.run(100_000, (1, 20), (1, 20)), 0);
    }

    #[test]
    fn who_begins_to_ask_for_one_at_a_time_is_answered_at_once_soon() {
        let mut scene = Scene::new();
        scene.run(2000, (2, 400), (8, 1000));
        let gathered = scene.run(2000, (1, 20), (1, 140));
        assert!(gathered < 200, "{gathered}");
    }

    #[test]
    fn what_was_lost_once_is_found_when_the_load_changes() {
        let mut scene = Scene::new();
        scene.run(1000, (1, 20), (1, 140));
        scene.run(20_000, (2, 400), (8, 1000));
        assert!(scene.run(1000, (2, 400), (8, 1000)) > 700, "{}", scene.gathered);
    }

    #[test]
    fn after_a_long_pause_the_first_is_answered_at_once_and_what_was_quicker_is_tried_soon() {
        let mut scene = Scene::new();
        scene.run(2000, (2, 400), (8, 1000));
        while scene.gathering.way == Way::AtOnce {
            scene.wake((2, 400), (8, 1000));
        }
        scene.now += LONG_PAUSE + Duration::from_nanos(1);
        scene.gathered = 0;
        scene.wake((2, 400), (8, 1000));
        assert_eq!(scene.gathered, 0);
        // One window at once, and then the trial.
        assert!(scene.run(WINDOW / 2 + 10, (2, 400), (8, 1000)) > 0);
    }

    #[test]
    fn answers_before_the_first_wake_up_count_for_nothing() {
        let mut gathering = Gathering::default();
        gathering.answered(1 << 20, Instant::now());
        assert_eq!(gathering.window.requests, 0);
    }
}
