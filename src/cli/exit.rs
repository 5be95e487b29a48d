//! Exit codes, after sysexits(3), so that a service manager can tell a wrong setting, which no
//! restart mends, from a passing obstacle.

use std::process::ExitCode;

use crate::app::{Ended, Error};
use crate::error::{Classify, Kind};

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// 0: it did what it was asked to.
    Success,
    /// 64, EX_USAGE: a flag or the settings file is wrong.
    Usage,
    /// 65, EX_DATAERR: something that it was given is damaged.
    Data,
    /// 69, EX_UNAVAILABLE: what would prove it is not there.
    Unproven,
    /// 70, EX_SOFTWARE: a fault of ours or of the machine.
    Fault,
    /// 75, EX_TEMPFAIL: another process is in the way.
    InUse,
    /// 78, EX_CONFIG: something on this node is not as it has to be.
    Unfit,
    /// 128 and the number of the signal that ended it before it had drained.
    Signalled(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Success => 0,
            Exit::Usage => 64,
            Exit::Data => 65,
            Exit::Unproven => 69,
            Exit::Fault => 70,
            Exit::InUse => 75,
            Exit::Unfit => 78,
            Exit::Signalled(number) => 128 + number,
        })
    }
}

impl From<Ended> for Exit {
    fn from(ended: Ended) -> Self {
        match ended {
            // Calls that are cut off are repeated by containerd, and what they left is swept at
            // the next start, so running out of time is no failure.
            Ended::Drained | Ended::TimedOut => Self::Success,
            Ended::Interrupted(signal) => Self::Signalled(signal.number()),
        }
    }
}

impl From<&Error> for Exit {
    fn from(error: &Error) -> Self {
        match error {
            Error::RootInUse { .. } | Error::AddressInUse { .. } => Self::InUse,
            Error::NotASocket(_) | Error::Builder(_) => Self::Usage,
            // What the settings asked for and the root cannot be or hold.
            Error::Snapshots(error) if error.kind() == Kind::InvalidArgument => Self::Usage,
            Error::Content(_) | Error::Containerd(_) => Self::Usage,
            Error::Snapshots(_)
            | Error::File { .. }
            | Error::Signals(_)
            | Error::Serve(_)
            | Error::SocketClosed => Self::Fault,
        }
    }
}
