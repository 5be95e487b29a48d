//! Where the log goes and what is in it.

use std::io::{self, IsTerminal as _};

use tracing::level_filters::LevelFilter;
use tracing::subscriber::{SetGlobalDefaultError, set_global_default};
use tracing::{Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::config::{LogFormat, LogLevel, LogSettings};

/// The log of this process was set up before.
#[derive(Debug, thiserror::Error)]
#[error("the log is set up already; start it once, before anything else")]
pub struct LogAlreadySet(#[from] SetGlobalDefaultError);

/// Sends everything that is logged from now on to standard error, with UTC timestamps.
///
/// Colours appear on a terminal only, so that a journal or a file holds plain text.
///
/// # Errors
/// When the process has a log already.
pub fn start(settings: LogSettings) -> Result<(), LogAlreadySet> {
    match settings.format {
        LogFormat::Text => {
            set_global_default(text(settings.level, io::stderr().is_terminal(), io::stderr))?;
        }
        LogFormat::Json => set_global_default(json(settings.level, io::stderr))?,
    }
    Ok(())
}

pub(super) fn text<W>(level: LogLevel, colour: bool, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_ansi(colour).with_writer(writer);
    tracing_subscriber::registry().with(filter(level)).with(lines)
}

fn json<W>(level: LogLevel, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(writer);
    tracing_subscriber::registry().with(filter(level)).with(lines)
}

/// Our own messages from `level` up. What libraries say is for their developers: only their
/// warnings, unless everything was asked for.
fn filter(level: LogLevel) -> Targets {
    let own = match level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    };
    let libraries = if own == Level::TRACE { own } else { own.min(Level::WARN) };
    Targets::new().with_target("nexuserofs", own).with_default(LevelFilter::from_level(libraries))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::kept::Kept;

    /// What a text log at `level` keeps of one message of each kind.
    fn logged(level: LogLevel) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        tracing::subscriber::with_default(text(level, false, move || writer.clone()), || {
            tracing::warn!("own warning");
            tracing::debug!("own detail");
            tracing::warn!(target: "h2", "library warning");
            tracing::debug!(target: "h2", "library detail");
        });
        kept.text()
    }

    #[test]
    fn the_level_is_for_our_own_messages() {
        let has = |log: &str| {
            ["own warning", "own detail", "library warning", "library detail"].map(|text| log.contains(text))
        };
        assert_eq!(has(&logged(LogLevel::Error)), [false, false, false, false]);
        assert_eq!(has(&logged(LogLevel::Info)), [true, false, true, false]);
        assert_eq!(has(&logged(LogLevel::Debug)), [true, true, true, false]);
        assert_eq!(has(&logged(LogLevel::Trace)), [true, true, true, true]);
    }

    #[test]
    fn json_is_one_object_per_line() {
        let kept = Kept::default();
        let writer = kept.clone();
        tracing::subscriber::with_default(json(LogLevel::Info, move || writer.clone()), || {
            tracing::info!(layers = 3, "two\nlines");
        });
        let log = kept.text();
        assert_eq!(log.lines().count(), 1, "{log}");
        let line: serde_json::Value = serde_json::from_str(&log).expect("JSON");
        assert_eq!(line["message"], "two\nlines");
        assert_eq!(line["layers"], 3);
        assert_eq!(line["level"], "INFO");
        assert!(line["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
    }
}
