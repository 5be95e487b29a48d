//! What the test programs in `tests/` have in common: they move into the test host and run named tests there.

use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use libtest_mimic::{Arguments, Failed, Trial};

use crate::bed::{self, Bed, Needs};
use crate::progress::{Lines, Steps};

/// How long something may take that happens behind an answer, such as garbage collection.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// A test's name and the test. The name is also that of its node's directory.
#[derive(Clone, Copy, Debug)]
pub struct Test {
    /// Its name.
    pub name: &'static str,
    /// The test.
    pub run: fn(&Bed) -> Result<()>,
}

/// The main function of a test program. Understands the arguments of cargo's test programs.
///
/// # Errors
/// The test host cannot be made or entered.
pub fn main(needs: Needs, tests: &'static [Test]) -> Result<ExitCode> {
    let arguments = Arguments::from_args();
    if arguments.list {
        let listed = tests.iter().map(|test| Trial::test(test.name, || Ok(()))).collect();
        return Ok(libtest_mimic::run(&arguments, listed).exit_code());
    }
    bed::run(
        needs,
        &Steps::new(&Lines),
        |_| {},
        |bed| {
            let bed = Arc::new(bed);
            let trials = tests.iter().map(|test| trial(*test, Arc::clone(&bed))).collect();
            Ok(libtest_mimic::run(&arguments, trials).exit_code())
        },
    )
}

fn trial(test: Test, bed: Arc<Bed>) -> Trial {
    Trial::test(test.name, move || (test.run)(&bed).map_err(|error| Failed::from(format!("{error:#}"))))
}

/// Waits until `holds` returns `None`, and fails with its last complaint if that takes too long.
///
/// # Errors
/// `holds` fails, or still complains at the end.
pub fn eventually(holds: impl Fn() -> Result<Option<String>>) -> Result<()> {
    let begun = Instant::now();
    loop {
        let Some(complaint) = holds()? else { return Ok(()) };
        if begun.elapsed() > PATIENCE {
            bail!("after {} s still: {complaint}", PATIENCE.as_secs());
        }
        thread::sleep(PAUSE);
    }
}
