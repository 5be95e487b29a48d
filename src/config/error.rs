//! What can be wrong with the settings, in words that tell the operator what to change.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::builder::{InvalidMkfsOption, UnfitBuilder, UnknownBuilder};
use super::file::Document;
use super::fragment::Place;
use super::log::{UnknownFormat, UnknownLevel};
use super::overlay::InvalidOverlayOption;
use super::path::UnusablePath;
use super::profile::{
    InvalidProfileName, UnknownFlavour, UnknownLayers, UnknownProjectQuota, UnknownVerityMode,
};
use super::settings::InvalidNamespace;
use super::size::InvalidSize;

/// Settings that the daemon refuses to start with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file that `--config` names could not be read.
    #[error("{path}: cannot read the settings file: {source}; name a readable TOML file with --config or leave the flag out", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not TOML, or has a key or a type that no setting has.
    #[error("{path}:{line}: {message}, in the line `{text}`; correct it or remove it (docs/operations.md lists every key)", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// The line's text.
        text: String,
        /// What the TOML reader says.
        message: String,
    },
    /// A value that cannot work.
    #[error("{location}: {problem}")]
    Invalid {
        /// Where the value was written.
        location: Location,
        /// What is wrong with it, and what would be right.
        problem: Problem,
    },
}

/// Where a refused value was written, as the operator would look for it.
#[derive(Debug)]
pub enum Location {
    /// A flag, by its long name.
    Flag(String),
    /// A key of the file.
    File {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// The key, with the table that it is in (`profiles.a.default_size`).
        key: String,
    },
    /// Written nowhere: the default of this key.
    Default(String),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "--{name}"),
            Self::File { path, line, key } => write!(f, "{}:{line}: {key}", path.display()),
            Self::Default(key) => write!(f, "default of {key}"),
        }
    }
}

/// What is wrong with a value. Every text ends with what to write instead.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each variant is the error type of one setting")]
pub enum Problem {
    #[error(transparent)]
    Path(#[from] UnusablePath),
    #[error(transparent)]
    Size(#[from] InvalidSize),
    #[error(transparent)]
    Namespace(#[from] InvalidNamespace),
    #[error(transparent)]
    Level(#[from] UnknownLevel),
    #[error(transparent)]
    Format(#[from] UnknownFormat),
    #[error(transparent)]
    OverlayOption(#[from] InvalidOverlayOption),
    #[error(transparent)]
    ProfileName(#[from] InvalidProfileName),
    #[error(transparent)]
    Flavour(#[from] UnknownFlavour),
    #[error(transparent)]
    Layers(#[from] UnknownLayers),
    #[error(transparent)]
    ProjectQuota(#[from] UnknownProjectQuota),
    #[error(transparent)]
    Verity(#[from] UnknownVerityMode),
    #[error(transparent)]
    MkfsOption(#[from] InvalidMkfsOption),
    #[error(transparent)]
    Builder(#[from] UnknownBuilder),
    #[error(transparent)]
    UnfitBuilder(#[from] UnfitBuilder),
}

/// A refused value, before the place is turned into a line of the file.
#[derive(Debug)]
pub(super) struct Invalid {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) problem: Problem,
}

impl Invalid {
    /// The error for the operator. `document` is the file that the fragments came from.
    pub(super) fn located(self, document: Option<&Document>) -> ConfigError {
        let location = match (self.place, document) {
            (Place::File(offset), Some(document)) => Location::File {
                path: document.path().to_owned(),
                line: document.line(offset).number,
                key: self.key,
            },
            (Place::Flag, _) => Location::Flag(self.key.replace('_', "-")),
            (Place::Default | Place::File(_), _) => Location::Default(self.key),
        };
        ConfigError::Invalid { location, problem: self.problem }
    }
}
