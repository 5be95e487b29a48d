//! Front-ends that keep to no rule: an exporter may end their connection, or end itself where they take memory away
//! under it, but reaches nothing else; and another machine's exporter serves on all the while.
//!
//! * `attack`: one connection of such a front-end.
//! * `rings`: what it puts into the memory that it shares.
//! * `target`: the exporter that it connects to, with everything that must stay as it is.
//! * `witness`: an honest front-end of another exporter, meanwhile.
//!
//! `NEXUSEROFS_HOSTILE_SECONDS` says how long, `NEXUSEROFS_SEED` repeats a run.

// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod attack;
mod rings;
mod target;
mod witness;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use libtest_mimic::{Arguments, Failed, Trial};
use nexuserofs_integration::bed::Profile;
use nexuserofs_integration::cargo;
use nexuserofs_integration::environment;
use nexuserofs_integration::random::Random;

use crate::attack::Tally;
use crate::target::{Contents, Target};
use crate::witness::Witness;

/// How long it goes on if nobody says.
const SECONDS: u64 = 20;

/// An honest front-end comes after so many attacks.
const HONEST_EVERY: u32 = 10;

fn main() -> Result<ExitCode> {
    let arguments = Arguments::from_args();
    let test = || besiege().map_err(|error| Failed::from(format!("{error:#}")));
    Ok(libtest_mimic::run(&arguments, vec![Trial::test("hostile_front_ends_harm_nobody_else", test)])
        .exit_code())
}

fn besiege() -> Result<()> {
    let seed = environment::seed()?;
    let seconds = environment::number("NEXUSEROFS_HOSTILE_SECONDS")?.unwrap_or(SECONDS);
    besiege_for(Duration::from_secs(seconds), seed).with_context(|| format!("NEXUSEROFS_SEED={seed}"))
}

fn besiege_for(time: Duration, seed: u64) -> Result<()> {
    let (programs, _) = cargo::build(Profile::Debug)?;
    let directory = tempfile::tempdir()?;
    let mut random = Random::new(seed);
    let begun = Instant::now();
    let mut targets = [Contents::Image, Contents::Block]
        .map(|contents| Target::start(&programs, directory.path(), contents));
    let witness = Witness::start(&programs, directory.path())?;
    let (mut tally, mut attacks, mut ended) = (Tally::default(), 0, 0);
    while begun.elapsed() < time {
        let target = targets[random.below(2)].as_mut().unwrap();
        let before = tally;
        if let Err(error) = attack::run(&mut random, target.socket(), &mut tally) {
            if !target.has_ended()? {
                return Err(error.context("attack"));
            }
            ended += 1;
            continue;
        }
        attacks += 1;
        let vanished = tally.vanished > before.vanished;
        ended += u32::from(target.look(vanished)?);
        if attacks % HONEST_EVERY == 0 {
            ended += u32::from(target.serves_still()?);
        }
    }
    for target in targets {
        let mut target = target?;
        ended += u32::from(target.serves_still()?);
        target.check()?;
    }
    let honest = witness.finish()?;
    println!(
        "{attacks} attacks in {} s: {tally:?}; {ended} exporters ended by memory that was taken away; \
         {honest} reads through another exporter meanwhile",
        time.as_secs()
    );
    Ok(())
}
