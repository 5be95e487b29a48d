//! `nexuserofs verify`: whether layers are the ones that their root hashes were made of.
//!
//! * `root`: the root hash, and where it is from. * `check`: one file, every block.
//! * `line`: what is printed.

mod check;
mod line;
mod root;

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use self::line::{State, Verified};
use super::arguments::Verify;
use super::error::Error;
use super::progress::Progress;
use super::report::{Console, Report};
use super::subject::{self, Subject};
use crate::cli::exit::Exit;

/// Reads every block of what `asked` names.
pub(super) fn run(asked: &Verify, console: Console) -> Result<Exit, Error> {
    let mut subjects: Vec<Subject> = Vec::new();
    for name in &asked.names {
        // Snapshots share layers.
        let found = subject::find(name, &asked.root)?;
        for part in found.iter().flat_map(Subject::parts) {
            if !subjects.contains(part) {
                subjects.push(part.clone());
            }
        }
    }
    if asked.root_hash.is_some() && subjects.len() != 1 {
        return Err(Error::OneRootHash { files: subjects.len() });
    }
    let lengths = subjects.iter().map(|subject| subject.file.metadata().map_or(0, |found| found.len()));
    let progress = Progress::of_bytes(lengths.sum(), console);
    let verified = all(&subjects, asked, &progress);
    drop(progress);
    let mut report = Report::default();
    let mut failure = Ok(());
    for line in verified {
        match line {
            Ok(line) => report.add(line),
            Err(error) => failure = failure.and(Err(error)),
        }
    }
    report.print(console)?;
    failure.map(|()| exit(&report))
}

/// Damage weighs more than a lack of proof.
fn exit(report: &Report<Verified>) -> Exit {
    let any = |state| report.lines().iter().any(|line| line.state == state);
    match (any(State::Damaged), any(State::Unproven)) {
        (true, _) => Exit::Data,
        (false, true) => Exit::Unproven,
        (false, false) => Exit::Success,
    }
}

/// Verifies each of `subjects`, several at the same time, and returns what came of it in their order.
fn all(subjects: &[Subject], asked: &Verify, progress: &Progress) -> Vec<Result<Verified, Error>> {
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(subjects.len());
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(subjects.len()));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((index, subject)) = take(subjects, &next) {
                    progress.name(&subject.file);
                    let result = check::verify(subject, asked.root_hash, progress);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((index, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

fn take<'s>(subjects: &'s [Subject], next: &AtomicUsize) -> Option<(usize, &'s Subject)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    Some((index, subjects.get(index)?))
}
