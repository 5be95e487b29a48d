//! What a preparation tells while it works, and what it has to say at the end.

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Whether a step had to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The step did its work now.
    Done,
    /// What the step makes was there already.
    AlreadyThere,
}

/// A finished step.
#[derive(Clone, Debug)]
pub struct Step {
    /// What the step is for, as a phrase: "test host (Debian sid)".
    pub what: String,
    /// Whether it had to do something.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.outcome {
            Outcome::Done => write!(f, "{} ({:.1} s)", self.what, self.took.as_secs_f64()),
            Outcome::AlreadyThere => write!(f, "{} (was there)", self.what),
        }
    }
}

/// Where steps are shown while they run.
pub trait Reporter: Sync {
    /// A step begins.
    fn started(&self, what: &str);
    /// A step ended well.
    fn finished(&self, step: &Step);
}

/// Shows each step that did something as a line on standard error.
#[derive(Debug)]
pub struct Lines;

impl Reporter for Lines {
    fn started(&self, _what: &str) {}

    fn finished(&self, step: &Step) {
        if step.outcome == Outcome::Done {
            eprintln!("test bed: {step}");
        }
    }
}

/// Shows nothing: for steps that are known to have nothing to do.
#[derive(Debug)]
pub struct Silent;

impl Reporter for Silent {
    fn started(&self, _what: &str) {}

    fn finished(&self, _step: &Step) {}
}

/// Runs steps one after the other and remembers them.
pub struct Steps<'a> {
    reporter: &'a dyn Reporter,
    finished: Mutex<Vec<Step>>,
}

impl fmt::Debug for Steps<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steps").field("finished", &self.finished).finish_non_exhaustive()
    }
}

impl<'a> Steps<'a> {
    /// No step yet.
    #[must_use]
    pub fn new(reporter: &'a dyn Reporter) -> Self {
        Self { reporter, finished: Mutex::new(Vec::new()) }
    }

    /// Runs one step.
    ///
    /// # Errors
    /// What `work` fails with, with the step's name in front.
    pub fn run<T>(&self, what: &str, work: impl FnOnce() -> Result<(T, Outcome)>) -> Result<T> {
        self.reporter.started(what);
        let begun = Instant::now();
        let (made, outcome) = work().with_context(|| format!("step failed: {what}"))?;
        let step = Step { what: what.to_owned(), outcome, took: begun.elapsed() };
        self.reporter.finished(&step);
        self.finished.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(step);
        Ok(made)
    }

    /// The steps that ended well so far.
    #[must_use]
    pub fn finished(&self) -> Vec<Step> {
        self.finished.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}
