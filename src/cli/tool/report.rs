//! What is printed: a line for each layer, or all of them as JSON.

use std::error::Error;
use std::path::Path;

use serde::Serialize;

use super::error::with_causes;
use crate::layer::cache::Entry;

/// What became of a layer, or what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// It was put into the cache.
    Added,
    /// It was in the cache before.
    Present,
    /// It is in the cache, whole as far as that was looked at.
    Whole,
    /// It is in the cache and cannot be taken.
    Refused,
}

#[derive(Debug, Serialize)]
struct Line {
    diff_id: String,
    file: String,
    /// Size of the file; null where it cannot be looked at.
    bytes: Option<u64>,
    state: State,
    /// Why it was refused.
    reason: Option<String>,
}

/// The lines, in the order in which things happened.
#[derive(Debug, Default)]
pub(super) struct Report {
    lines: Vec<Line>,
}

impl Report {
    pub(super) fn add(&mut self, entry: &Entry, state: State) {
        self.push(entry, state, None);
    }

    pub(super) fn refuse(&mut self, entry: &Entry, reason: &dyn Error) {
        self.push(entry, State::Refused, Some(with_causes(reason)));
    }

    pub(super) fn has(&self, state: State) -> bool {
        self.lines.iter().any(|line| line.state == state)
    }

    /// Prints everything on standard output.
    pub(super) fn print(&self, json: bool) {
        if json {
            // Lines of texts and numbers always have a JSON form.
            println!("{}", serde_json::to_string_pretty(&self.lines).unwrap_or_default());
            return;
        }
        for Line { diff_id, bytes, state, reason, .. } in &self.lines {
            let bytes = bytes.map_or_else(|| "?".to_owned(), |bytes| bytes.to_string());
            let reason = reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
            println!("{diff_id} {bytes:>12} {}{reason}", state.text());
        }
    }

    fn push(&mut self, entry: &Entry, state: State, reason: Option<String>) {
        let size = |path: &Path| path.metadata().map(|found| found.len()).ok();
        self.lines.push(Line {
            diff_id: entry.diff_id().to_string(),
            file: entry.path().display().to_string(),
            bytes: size(entry.path()),
            state,
            reason,
        });
    }
}

impl State {
    const fn text(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Present => "present",
            Self::Whole => "whole",
            Self::Refused => "refused",
        }
    }
}
