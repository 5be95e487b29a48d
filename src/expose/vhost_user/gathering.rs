//! Whether a thread lets requests gather before it answers them.
//!
//! A guest whose processors share ours with us is interrupted by each of our answers, and we by each of its requests.
//! Where both are busy, to answer at intervals all that came is quicker for it, as a network card interrupts at intervals
//! (interrupt moderation); where it asks for few things at a time, or processors are free, it only costs. That depends on
//! the guest, on its load and on ours, so both ways are tried in turns, and the quicker is kept until the next trial.
//! `docs/decisions/requests-gather.md` has the figures.

use std::mem;
use std::time::{Duration, Instant};

/// From one answer to the next, while requests gather. The kernel adds its timer slack, 50 microseconds.
const INTERVAL: Duration = Duration::from_micros(400);

/// Requests by which a way is judged.
const WINDOW: u32 = 64;

/// Windows in either way that make a trial. Of each the median counts: now and then another program has the processor.
const TURNS: usize = 3;

/// So many times what the other way takes is too much to go on with a trial.
const HOPELESS: u32 = 4;

/// Windows between two trials: at first, and at most.
const FEWEST_BETWEEN: u32 = 16;
const MOST_BETWEEN: u32 = 256;

/// After so many wake-ups, gathering must have brought so many requests with each: with fewer in flight, a guest waits
/// longer for them than it gains.
const FEW_WAKES: u32 = 8;
const FEWEST_TOGETHER: u32 = 4;

/// Most windows in which several requests came at a time that are asked for before they gather.
const MOST_NEEDED: u32 = 64;

/// A window in which a guest asks for nothing for so long says nothing of the way.
const LONG_PAUSE: Duration = Duration::from_millis(10);

/// What was learned of one queue.
#[derive(Clone, Debug)]
pub(super) struct Gathering {
    /// The quicker way for requests that come several at a time.
    way: Way,
    trial: Option<Trial>,
    window: Window,
    /// When the last request was answered.
    answered: Option<Instant>,
    /// Windows until the next trial.
    until_trial: u32,
    /// What that began at, after the last trial.
    between: u32,
    /// Windows in which several came at a time until they may gather. None while they may.
    needed: Option<u32>,
    /// The same after the next time that too few gathered.
    needed_next: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    AtOnce,
    Gathered,
}

/// How long windows took: in the way that was kept before, and in the other. They take turns, and the kept one begins.
#[derive(Clone, Debug)]
struct Trial {
    kept: Vec<Duration>,
    other: Vec<Duration>,
}

/// Requests that were answered in one way.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    begun: Option<Instant>,
    wakes: u32,
    /// How often something was found.
    batches: u32,
    requests: u32,
}

impl Default for Gathering {
    fn default() -> Self {
        Self {
            way: Way::AtOnce,
            trial: None,
            window: Window::default(),
            answered: None,
            until_trial: 0,
            between: FEWEST_BETWEEN,
            needed: Some(1),
            needed_next: 1,
        }
    }
}

impl Gathering {
    /// The thread was woken by a request: how long it waits before it answers.
    pub(super) fn woken(&mut self, now: Instant) -> Option<Duration> {
        let since = self.answered.map(|answered| now.duration_since(answered));
        if since.is_none_or(|since| since > LONG_PAUSE) {
            self.window = Window::since(now);
        }
        // A hostile guest may wake us without asking for anything.
        self.window.wakes = self.window.wakes.saturating_add(1);
        match self.way_now() {
            Way::AtOnce => None,
            Way::Gathered => INTERVAL.checked_sub(since?),
        }
    }

    /// So many requests were answered.
    pub(super) fn answered(&mut self, requests: usize, now: Instant) {
        self.answered = Some(now);
        let way = self.way_now();
        let Some(took) = self.window.add(requests, now) else { return };
        if way == Way::Gathered && self.window.is_in_vain() {
            self.needed_next = (self.needed_next * 2).min(MOST_NEEDED);
            self.stop_gathering(now);
        } else if self.trial.as_ref().is_some_and(|trial| trial.is_hopeless(took)) {
            self.decide(false);
            self.window = Window::since(now);
        } else if let Some(took) = self.window.whole(took) {
            let window = mem::replace(&mut self.window, Window::since(now));
            match (way, self.needed) {
                (Way::AtOnce, _) if !window.has_several() => self.stop_gathering(now),
                (_, Some(needed)) => self.needed = needed.checked_sub(1).filter(|needed| *needed > 0),
                (_, None) => self.judge(way, took),
            }
        }
    }

    /// How requests are answered now.
    fn way_now(&self) -> Way {
        match &self.trial {
            _ if self.needed.is_some() => Way::AtOnce,
            Some(trial) if trial.is_of_other() => self.way.other(),
            _ => self.way,
        }
    }

    /// Too few come at a time for anything to gather. What is the quicker way for many is still known.
    fn stop_gathering(&mut self, now: Instant) {
        self.needed = Some(self.needed_next);
        self.trial = None;
        self.window = Window::since(now);
    }

    /// A window was answered in this way.
    fn judge(&mut self, way: Way, took: Duration) {
        if way == Way::Gathered {
            self.needed_next = 1;
        }
        match &mut self.trial {
            Some(trial) => {
                trial.add(took);
                if let Some(is_won) = trial.is_won() {
                    self.decide(is_won);
                }
            }
            None if self.until_trial == 0 => self.trial = Some(Trial::begun(took)),
            None => self.until_trial -= 1,
        }
    }

    /// Ends a trial, and keeps the way that was tried if it won.
    fn decide(&mut self, is_won: bool) {
        self.trial = None;
        if is_won {
            self.way = self.way.other();
            self.between = FEWEST_BETWEEN;
        } else {
            self.between = (self.between * 2).min(MOST_BETWEEN);
        }
        self.until_trial = self.between;
    }
}

impl Trial {
    fn begun(took: Duration) -> Self {
        Self { kept: vec![took], other: Vec::new() }
    }

    /// Whether the next window is one of the way that is tried.
    const fn is_of_other(&self) -> bool {
        self.other.len() < self.kept.len()
    }

    fn add(&mut self, took: Duration) {
        if self.is_of_other() { self.other.push(took) } else { self.kept.push(took) }
    }

    /// Whether a window that has taken so long needs not be waited for.
    fn is_hopeless(&self, took: Duration) -> bool {
        self.is_of_other() && self.kept.first().is_some_and(|kept| took > *kept * HOPELESS)
    }

    /// Whether the other way is the quicker one; none until the trial has ended. By a twentieth: what is about the same is
    /// better left as it is.
    fn is_won(&self) -> Option<bool> {
        let is_over = self.other.len() == TURNS;
        is_over.then(|| median(&self.other) * 20 < median(&self.kept) * 19)
    }
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

impl Window {
    fn since(begun: Instant) -> Self {
        Self { begun: Some(begun), ..Self::default() }
    }

    /// Counts a batch, and returns how long the window has taken up to now. None before the first wake-up.
    fn add(&mut self, requests: usize, now: Instant) -> Option<Duration> {
        let begun = self.begun?;
        self.batches = self.batches.saturating_add(1);
        self.requests = self.requests.saturating_add(u32::try_from(requests).unwrap_or(u32::MAX));
        Some(now.duration_since(begun))
    }

    /// What [`WINDOW`] requests took, if there were as many.
    fn whole(&self, took: Duration) -> Option<Duration> {
        (self.requests >= WINDOW).then(|| took.mul_f64(f64::from(WINDOW) / f64::from(self.requests)))
    }

    /// Whether some requests came with others.
    const fn has_several(&self) -> bool {
        self.requests > self.batches.saturating_add(self.batches / 10)
    }

    /// Whether waiting brought too little.
    const fn is_in_vain(&self) -> bool {
        self.wakes >= FEW_WAKES && self.requests / FEWEST_TOGETHER < self.wakes
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

    const MANY: [(usize, u64); 2] = [(2, 400), (16, 1000)];
    const FEW: [(usize, u64); 2] = [(1, 20), (1, 450)];

    #[test]
    fn where_many_come_while_it_waits_they_gather() {
        let mut scene = Scene::new();
        scene.run(1000, MANY[0], MANY[1]);
        assert!(scene.run(1000, MANY[0], MANY[1]) > 700, "{}", scene.gathered);
    }

    #[test]
    fn where_it_takes_longer_they_do_not() {
        let mut scene = Scene::new();
        scene.run(10_000, (8, 50), (16, 450));
        assert!(scene.run(10_000, (8, 50), (16, 450)) < 100, "{}", scene.gathered);
    }

    #[test]
    fn one_at_a_time_is_answered_at_once() {
        let mut scene = Scene::new();
        assert_eq!(scene.run(100_000, FEW[0], FEW[1]), 0);
    }

    #[test]
    fn who_begins_to_ask_for_one_at_a_time_is_answered_at_once_soon() {
        let mut scene = Scene::new();
        scene.run(1000, MANY[0], MANY[1]);
        assert!(scene.run(10_000, FEW[0], FEW[1]) < 2 * FEW_WAKES, "{}", scene.gathered);
    }

    #[test]
    fn what_was_learned_of_many_is_still_known_after_a_few() {
        let mut scene = Scene::new();
        scene.run(1000, MANY[0], MANY[1]);
        scene.run(10_000, FEW[0], FEW[1]);
        assert!(scene.run(200, MANY[0], MANY[1]) > 100, "{}", scene.gathered);
    }

    #[test]
    fn two_at_a_time_gather_ever_more_rarely() {
        let mut scene = Scene::new();
        scene.run(1000, MANY[0], MANY[1]);
        scene.run(10_000, (2, 100), (2, 450));
        assert!(scene.run(10_000, (2, 100), (2, 450)) < 100, "{}", scene.gathered);
    }

    #[test]
    fn what_was_lost_is_found_when_the_load_changes() {
        let mut scene = Scene::new();
        scene.run(10_000, (8, 50), (16, 450));
        scene.run(20_000, MANY[0], MANY[1]);
        assert!(scene.run(1000, MANY[0], MANY[1]) > 700, "{}", scene.gathered);
    }

    #[test]
    fn one_window_beside_another_program_decides_no_trial() {
        let mut trial = Trial::begun(Duration::from_millis(3));
        for millis in [2, 3, 9, 3, 2] {
            assert_eq!(trial.is_won(), None);
            trial.add(Duration::from_millis(millis));
        }
        assert_eq!(trial.is_won(), Some(true));
    }

    #[test]
    fn a_request_after_a_pause_is_answered_at_once_and_the_pause_is_not_counted() {
        let mut scene = Scene::new();
        scene.run(1000, MANY[0], MANY[1]);
        while scene.gathering.way_now() == Way::AtOnce {
            scene.wake(MANY[0], MANY[1]);
        }
        scene.now += LONG_PAUSE + Duration::from_nanos(1);
        assert_eq!(scene.gathering.woken(scene.now), None);
        assert_eq!(scene.gathering.window.begun, Some(scene.now));
        assert_eq!(scene.gathering.way_now(), Way::Gathered);
    }

    #[test]
    fn answers_before_the_first_wake_up_count_for_nothing() {
        let mut gathering = Gathering::default();
        gathering.answered(1 << 20, Instant::now());
        assert_eq!(gathering.window.requests, 0);
    }
}
