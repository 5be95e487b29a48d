//! Errors, exit codes, and how they are told.

use std::io;
use std::path::PathBuf;

use nexuserofs_guest::NoPlan;
use nexuserofs_guest::assembly;
use nexuserofs_guest::canonical::NotCanonical;
use nexuserofs_guest::command_line::InvalidCommandLine;
use nexuserofs_guest::descriptor::{InvalidBlock, InvalidDescriptor, InvalidStorages};
use nexuserofs_guest::devices::{InvalidQuery, Lookup, Unreadable, Wait};
use nexuserofs_guest::dm;
use nexuserofs_guest::policy::{InvalidPolicy, Refusal};

/// Why the program did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error("cannot {operation} {}: {source}", path.display())]
    File { operation: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Policy(#[from] InvalidPolicy),
    #[error(transparent)]
    CommandLine(#[from] InvalidCommandLine),
    #[error(transparent)]
    Descriptor(#[from] InvalidDescriptor),
    #[error("{} is no signed manifest: {source}", path.display())]
    Manifest { path: PathBuf, source: NotCanonical },
    #[error(transparent)]
    Storages(#[from] InvalidStorages),
    #[error(transparent)]
    Block(#[from] InvalidBlock),
    #[error(transparent)]
    Lookup(#[from] Lookup),
    #[error(transparent)]
    Sysfs(#[from] Unreadable),
    #[error(transparent)]
    Assembly(#[from] assembly::Error),
    #[error("cannot {operation}: {source}")]
    Init { operation: String, source: io::Error },
}

impl Failure {
    pub(crate) fn file(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { operation, path, source }
    }

    /// The exit code. They never change; `docs/guest.md` lists them.
    pub(crate) const fn code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::File { .. } => 2,
            Self::Refused(_)
            | Self::Policy(_)
            | Self::CommandLine(_)
            | Self::Descriptor(_)
            | Self::Manifest { .. }
            | Self::Storages(_)
            | Self::Block(_) => 3,
            Self::Lookup(_) | Self::Sysfs(_) => 4,
            Self::Assembly(assembly::Error::Device(_) | assembly::Error::Corrupted { .. }) => 5,
            Self::Assembly(_) | Self::Init { .. } => 6,
        }
    }

    /// The reason in one stable word.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::Usage(_) => "usage",
            Self::File { .. } => "file",
            Self::Refused(refusal) => refusal.reason(),
            Self::Policy(error) => error.reason(),
            Self::CommandLine(_) => "command_line_damaged",
            Self::Descriptor(_) | Self::Block(_) => "descriptor_damaged",
            Self::Manifest { .. } => "manifest_damaged",
            Self::Storages(_) => "storages_damaged",
            Self::Lookup(Lookup::Missing { .. }) => "device_missing",
            Self::Lookup(Lookup::Ambiguous { .. }) => "device_ambiguous",
            Self::Sysfs(_) => "sysfs_missing",
            Self::Assembly(assembly::Error::Corrupted { .. }) => "layer_corrupted",
            Self::Assembly(assembly::Error::Device(dm::Error::Refused { .. })) => "verity_refused",
            Self::Assembly(assembly::Error::Device(dm::Error::NameTaken { .. })) => "device_name_taken",
            Self::Assembly(assembly::Error::Device(dm::Error::NoCrypt)) => "crypt_missing",
            Self::Assembly(assembly::Error::Device(dm::Error::NoRandom { .. })) => "random_missing",
            Self::Assembly(assembly::Error::Device(_)) => "verity_missing",
            Self::Assembly(assembly::Error::OldKernel { .. }) => "kernel_too_old",
            Self::Assembly(assembly::Error::Taken { .. }) => "id_taken",
            Self::Assembly(assembly::Error::InUse { .. }) => "in_use",
            Self::Assembly(_) => "mount_failed",
            Self::Init { .. } => "init_failed",
        }
    }

    /// Writes the failure on standard error, as one line of JSON.
    pub(crate) fn tell(&self) {
        eprintln!(
            "{}",
            serde_json::json!({
                "exit_code": self.code(),
                "reason": self.reason(),
                "message": self.to_string(),
            })
        );
    }
}

impl From<lexopt::Error> for Failure {
    fn from(error: lexopt::Error) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<InvalidQuery> for Failure {
    fn from(error: InvalidQuery) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<NoPlan> for Failure {
    fn from(error: NoPlan) -> Self {
        match error {
            NoPlan::Refused(refusal) => Self::Refused(refusal),
            NoPlan::Device(lookup) => Self::Lookup(lookup),
        }
    }
}

impl From<Wait> for Failure {
    fn from(error: Wait) -> Self {
        match error {
            Wait::Lookup(lookup) => Self::Lookup(lookup),
            Wait::Sysfs(unreadable) => Self::Sysfs(unreadable),
        }
    }
}
