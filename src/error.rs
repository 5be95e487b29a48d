//! What kind of failure an error is, for the one place that turns errors into gRPC codes.

use std::error::Error;
use std::io;

/// The class of a failure. Each maps to exactly one gRPC code (`service::status`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The named thing does not exist.
    NotFound,
    /// The name or key is taken.
    AlreadyExists,
    /// The request can never succeed as it is.
    InvalidArgument,
    /// The request may succeed once the state of the system changed.
    FailedPrecondition,
    /// Not ours to do: containerd tries the next plugin.
    Unimplemented,
    /// A peer that we need does not answer.
    Unavailable,
    /// Out of disk space, inodes, quota or memory.
    ResourceExhausted,
    /// Content is damaged or is not what its digest says.
    DataLoss,
    /// The caller went away.
    Cancelled,
    /// The operating system refused for lack of rights.
    PermissionDenied,
    /// A fault of ours or of the machine.
    Internal,
}

/// An error that knows its [`Kind`].
pub trait Classify: Error {
    /// The class of this failure.
    fn kind(&self) -> Kind;
}

/// The class of an error that the operating system reported.
///
/// A missing file is [`Kind::Internal`]: what we look for on disk is ours, so its absence is a
/// fault and not an answer to the client.
#[must_use]
pub fn io_kind(error: &io::Error) -> Kind {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::OutOfMemory => {
            Kind::ResourceExhausted
        }
        io::ErrorKind::PermissionDenied => Kind::PermissionDenied,
        _ if is_out_of_descriptors(error) => Kind::ResourceExhausted,
        _ => Kind::Internal,
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}
