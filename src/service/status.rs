//! Errors into gRPC statuses: the only place that chooses a code.
//!
//! containerd turns the code into one of its error classes and keeps the text
//! (`errdefs/pkg/errgrpc`), so that the text is what a user of `ctr` or `kubectl` reads.

use std::error::Error;

use tonic::{Code, Status};

use crate::error::{Classify, Kind};

/// Why a call fails. Any classified error becomes one with `?`.
#[derive(Debug)]
pub(super) struct Failure(Status);

impl<E: Classify> From<E> for Failure {
    /// The code of the error's kind, and the texts of the error and of what caused it.
    fn from(error: E) -> Self {
        Self(Status::new(code(error.kind()), text(&error)))
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        failure.0
    }
}

/// The code for a kind of failure.
const fn code(kind: Kind) -> Code {
    match kind {
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::InvalidArgument => Code::InvalidArgument,
        Kind::FailedPrecondition => Code::FailedPrecondition,
        Kind::Unimplemented => Code::Unimplemented,
        Kind::Unavailable => Code::Unavailable,
        Kind::ResourceExhausted => Code::ResourceExhausted,
        Kind::DataLoss => Code::DataLoss,
        Kind::Cancelled => Code::Cancelled,
        Kind::PermissionDenied => Code::PermissionDenied,
        Kind::Internal => Code::Internal,
    }
}

/// The texts of the error and of its sources. A source whose text the error repeats is named once.
fn text(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum LayerError {
        #[error("write layer")]
        Write(#[source] Cause),
        #[error("write layer: {0}")]
        Repeating(#[source] Cause),
    }

    #[derive(Debug, thiserror::Error)]
    #[error("sync file")]
    struct Cause(#[source] io::Error);

    impl Classify for LayerError {
        fn kind(&self) -> Kind {
            let (Self::Write(Cause(error)) | Self::Repeating(Cause(error))) = self;
            crate::error::io_kind(error)
        }
    }

    fn full() -> Cause {
        Cause(io::Error::new(io::ErrorKind::StorageFull, "disk full"))
    }

    #[test]
    fn a_status_tells_the_whole_chain() {
        for error in [LayerError::Write(full()), LayerError::Repeating(full())] {
            let status = Status::from(Failure::from(error));
            assert_eq!(status.message(), "write layer: sync file: disk full");
            assert_eq!(status.code(), Code::ResourceExhausted);
        }
    }

    #[test]
    fn every_kind_has_the_code_that_containerd_reads_as_that_kind() {
        // The numbers of the gRPC specification.
        for (kind, number) in [
            (Kind::Cancelled, 1),
            (Kind::InvalidArgument, 3),
            (Kind::NotFound, 5),
            (Kind::AlreadyExists, 6),
            (Kind::PermissionDenied, 7),
            (Kind::ResourceExhausted, 8),
            (Kind::FailedPrecondition, 9),
            (Kind::Unimplemented, 12),
            (Kind::Internal, 13),
            (Kind::Unavailable, 14),
            (Kind::DataLoss, 15),
        ] {
            assert_eq!(code(kind) as i32, number, "{kind:?}");
        }
    }
}
