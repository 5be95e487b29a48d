//! What one check found.

use std::fmt;

use serde::Serialize;

use crate::cli::tool::report::Line;

/// What a check is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Area {
    /// The daemon's settings.
    Settings,
    Kernel,
    /// The directory of the daemon's data.
    Root,
    Daemon,
    /// Programs that the daemon runs.
    Programs,
    /// containerd as it runs.
    Containerd,
    /// containerd's settings.
    Wiring,
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// As it has to be.
    Ok,
    /// It could not be found out.
    Unknown,
    /// It works, but not as well as it could, or not everywhere.
    Warning,
    /// Something does not work.
    Failure,
}

/// What one check found, and what to do about it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    area: Area,
    /// Name of the check. It does not change between releases.
    check: &'static str,
    pub(super) state: State,
    found: String,
    /// What to do; null where nothing has to be done.
    advice: Option<String>,
}

/// What was found, and what would be better.
#[derive(Clone, Debug)]
pub(super) struct Complaint {
    pub(super) found: String,
    pub(super) advice: String,
}

impl Complaint {
    pub(super) fn new(found: impl fmt::Display, advice: impl fmt::Display) -> Self {
        Self { found: found.to_string(), advice: advice.to_string() }
    }
}

impl Area {
    pub(super) fn ok(self, check: &'static str, found: impl fmt::Display) -> Finding {
        Finding { area: self, check, state: State::Ok, found: found.to_string(), advice: None }
    }

    pub(super) fn complain(self, check: &'static str, state: State, complaint: Complaint) -> Finding {
        let Complaint { found, advice } = complaint;
        Finding { area: self, check, state, found, advice: Some(advice) }
    }

    pub(super) fn unknown(
        self,
        check: &'static str,
        found: impl fmt::Display,
        advice: impl fmt::Display,
    ) -> Finding {
        self.complain(check, State::Unknown, Complaint::new(found, advice))
    }

    pub(super) fn warning(
        self,
        check: &'static str,
        found: impl fmt::Display,
        advice: impl fmt::Display,
    ) -> Finding {
        self.complain(check, State::Warning, Complaint::new(found, advice))
    }

    pub(super) fn failure(
        self,
        check: &'static str,
        found: impl fmt::Display,
        advice: impl fmt::Display,
    ) -> Finding {
        self.complain(check, State::Failure, Complaint::new(found, advice))
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Kernel => "kernel",
            Self::Root => "root",
            Self::Daemon => "daemon",
            Self::Programs => "programs",
            Self::Containerd => "containerd",
            Self::Wiring => "wiring",
        }
    }
}

impl State {
    const fn text(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Unknown => "?",
            Self::Warning => "WARN",
            Self::Failure => "FAIL",
        }
    }
}

impl Line for Finding {
    fn text(&self) -> String {
        let Self { area, check, state, found, advice } = self;
        let first = format!("{:<4}  {} {check}: {found}", state.text(), area.text());
        match advice {
            Some(advice) => format!("{first}\n        -> {advice}"),
            None => first,
        }
    }
}
