//! Failures on their way up, before the entry that they belong to is attached.

use super::error::{Breach, EntryRef, Error, Fault, Malformed, Part, Refusal};
use super::stream::Stop;

/// A failure inside an entry.
#[derive(Debug)]
pub(super) enum Problem {
    /// The stream or the sink stopped in this part.
    Stopped(Part, Stop),
    /// The entry is not acceptable.
    Fault(Fault),
}

impl Problem {
    /// The public error. `position` is how far the stream was read.
    pub(super) fn at(self, entry: EntryRef, position: u64) -> Error {
        match self {
            Self::Stopped(part, Stop::End) => Error::Cut { entry, offset: position, part },
            Self::Stopped(_, Stop::Read(source)) => Error::Read { offset: position, source },
            Self::Stopped(_, Stop::Sink(source)) => Error::Store { entry, source },
            Self::Fault(fault) => Error::Entry { entry, fault },
        }
    }
}

impl Part {
    /// Says in which part the stream stopped.
    pub(super) fn stopped(self) -> impl FnOnce(Stop) -> Problem {
        move |stop| Problem::Stopped(self, stop)
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Malformed> for Problem {
    fn from(malformed: Malformed) -> Self {
        Self::Fault(malformed.into())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::Fault(refusal.into())
    }
}

impl From<Breach> for Problem {
    fn from(breach: Breach) -> Self {
        Self::Fault(breach.into())
    }
}
