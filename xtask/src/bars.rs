//! Progress of a preparation on the terminal, and its summary.

use std::io::{self, IsTerminal};
use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use nexuserofs_integration::progress::{Outcome, Reporter, Step, Steps};

/// A bar that counts the steps, with the running step and its time beside it. Where standard error is no
/// terminal, a line when a step begins to work and another when it ended.
#[derive(Debug)]
pub(crate) struct Bars {
    bar: ProgressBar,
    terminal: bool,
}

impl Bars {
    /// A bar for this many steps. More or fewer may come.
    pub(crate) fn new(steps: u64) -> Self {
        let terminal = io::stderr().is_terminal();
        let bar = if terminal { ProgressBar::new(steps) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{spinner} [{bar:24}] {pos}/{len} {msg} ({elapsed})")
        {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar, terminal }
    }
}

impl Reporter for Bars {
    fn started(&self, what: &str) {
        self.bar.set_message(what.to_owned());
        self.bar.reset_elapsed();
        if !self.terminal {
            eprintln!("... {what}");
        }
    }

    fn finished(&self, step: &Step) {
        self.bar.inc(1);
        self.bar.suspend(|| eprintln!("ok  {step}"));
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Runs one step that always has something to do.
pub(crate) fn timed<T>(steps: &Steps<'_>, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    steps.run(what, || Ok((work()?, Outcome::Done)))
}

/// One line on what the preparation did.
pub(crate) fn summary(steps: &Steps<'_>) {
    let steps = steps.finished();
    let (made, there): (Vec<&Step>, Vec<&Step>) =
        steps.iter().partition(|step| step.outcome == Outcome::Done);
    let took: f64 = made.iter().map(|step| step.took.as_secs_f64()).sum();
    eprintln!("prepared: {} steps done in {took:.0} s, {} had nothing to do", made.len(), there.len());
}
