//! What is logged, and in which form.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How much is logged, and in which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSettings {
    /// The least important messages that are written.
    pub level: LogLevel,
    /// Their form.
    pub format: LogFormat,
}

/// Importance of a message, from the most important down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the usual five")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogFormat {
    /// One line for a reader; coloured on a terminal only.
    Text,
    /// One JSON object per line.
    Json,
}

/// A text that is no log level.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a log level; write error, warn, info, debug or trace")]
pub struct UnknownLevel(String);

/// A text that is no log format.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a log format; write text or json")]
pub struct UnknownFormat(String);

impl FromStr for LogLevel {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "error" => Ok(Self::Error),
            "warn" => Ok(Self::Warn),
            "info" => Ok(Self::Info),
            "debug" => Ok(Self::Debug),
            "trace" => Ok(Self::Trace),
            _ => Err(UnknownLevel(text.to_owned())),
        }
    }
}

impl FromStr for LogFormat {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(UnknownFormat(text.to_owned())),
        }
    }
}
