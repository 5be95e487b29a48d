//! What is told about the layer of a cache.

use std::error::Error;
use std::path::Path;

use serde::Serialize;

use crate::cli::tool::error::with_causes;
use crate::cli::tool::report::Line;
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

/// A layer of a cache.
#[derive(Debug, Serialize)]
pub(super) struct CacheLine {
    diff_id: String,
    file: String,
    /// Size of the file; null where it cannot be looked at.
    bytes: Option<u64>,
    pub(super) state: State,
    /// Why it was refused.
    reason: Option<String>,
}

impl CacheLine {
    pub(super) fn new(entry: &Entry, state: State) -> Self {
        let size = |path: &Path| path.metadata().map(|found| found.len()).ok();
        Self {
            diff_id: entry.diff_id().to_string(),
            file: entry.path().display().to_string(),
            bytes: size(entry.path()),
            state,
            reason: None,
        }
    }

    pub(super) fn refused(entry: &Entry, reason: &dyn Error) -> Self {
        Self { reason: Some(with_causes(reason)), ..Self::new(entry, State::Refused) }
    }
}

impl Line for CacheLine {
    fn text(&self) -> String {
        let Self { diff_id, bytes, state, reason, .. } = self;
        let bytes = bytes.map_or_else(|| "?".to_owned(), |bytes| bytes.to_string());
        let reason = reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        format!("{diff_id} {bytes:>12} {}{reason}", state.text())
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
