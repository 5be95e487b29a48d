//! Why disks are not served.

use std::io;
use std::path::PathBuf;

use crate::error::{Classify, Kind, io_kind};
use crate::expose::{device, vhost_user};
use crate::store;

/// Why the disks of a snapshot are not served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] store::Error),
    /// The layers cannot be a disk.
    #[error(transparent)]
    Device(#[from] device::Error),
    /// A disk cannot be served.
    #[error(transparent)]
    Disk(#[from] vhost_user::Error),
    /// The hash tree of merged metadata is not over these layers.
    #[error(
        "the hash tree over {} and its layers is over {covered} bytes, and these are {bytes}: name all layers that it was \
         made of, the oldest first", path.display()
    )]
    OtherLayers {
        /// The metadata.
        path: PathBuf,
        /// What the tree covers, in bytes.
        covered: u64,
        /// What there is, in bytes.
        bytes: u64,
    },
    /// A socket cannot be made.
    #[error(
        "cannot listen at {}: a socket's path has at most 107 bytes, so give the daemon a root with a shorter one if \
         that is it", path.display()
    )]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The program that serves cannot be started.
    #[error("cannot start {}, which serves disks: install it beside the daemon", program.display())]
    Program {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What is to be served did not get to the process, or its answer not back.
    #[error("cannot tell the process what to serve")]
    HandOver(#[source] io::Error),
    /// What a process was told makes no sense to it.
    #[error(
        "what is to be served is not understood: {reason}; daemon and tool are not of the same release, restart the daemon"
    )]
    Specification {
        /// What is wrong.
        reason: String,
    },
    /// The process cannot serve.
    #[error("the process that was to serve the disks ended: {reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
    /// Another process serves the same.
    #[error("another process serves the disks in {}: end it first", path.display())]
    Served {
        /// The directory of the export.
        path: PathBuf,
    },
    /// What is to be given up cannot be.
    #[error("cannot give up {what}: {reason}")]
    Confinement {
        /// What.
        what: &'static str,
        /// Why not.
        reason: String,
    },
    /// A thread of the process cannot be made, or ended.
    #[error("cannot go on serving {serial:?}: {reason}")]
    Thread {
        /// The disk.
        serial: String,
        /// Why not.
        reason: String,
    },
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::File(error) => error.kind(),
            Self::Device(error) => error.kind(),
            Self::Disk(error) => error.kind(),
            Self::Listen { source, .. } => io_kind(source),
            Self::OtherLayers { .. } | Self::Served { .. } | Self::Program { .. } => Kind::FailedPrecondition,
            Self::HandOver(_)
            | Self::Specification { .. }
            | Self::Refused { .. }
            | Self::Confinement { .. }
            | Self::Thread { .. } => Kind::Internal,
        }
    }
}
