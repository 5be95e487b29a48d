//! `nexuserofs-snapshotter`, the daemon.

mod arguments;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;

use self::arguments::Arguments;
use super::exit::Exit;
use super::explain;
use crate::app::{self, Ended};
use crate::config::{self, Settings};
use crate::telemetry;

/// How long threads that still write to disk are waited for after the last call.
const LAST_WRITES: Duration = Duration::from_secs(1);

/// Runs the daemon with these arguments, the first of which is the program's name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let exit = match settings(arguments) {
        Ok(settings) => run(settings),
        Err(exit) => exit,
    };
    exit.into()
}

/// The settings that the arguments and the file make. What is wrong is said on standard error.
fn settings(arguments: impl IntoIterator<Item = OsString>) -> Result<Settings, Exit> {
    let arguments = Arguments::try_parse_from(arguments).map_err(|error| explain(&error))?;
    let (flags, file) = arguments.split();
    config::load(flags, file.as_deref()).map_err(|error| {
        eprintln!("nexuserofs-snapshotter: {error}");
        Exit::Usage
    })
}

fn run(settings: Settings) -> Exit {
    if let Err(error) = telemetry::start(settings.log) {
        eprintln!("nexuserofs-snapshotter: {error}");
        return Exit::Fault;
    }
    telemetry::log_panics();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the runtime; check the limits of processes and open files");
            return Exit::Fault;
        }
    };
    let result = runtime.block_on(app::run(settings));
    match result {
        Ok(Ended::Interrupted(_)) => runtime.shutdown_background(),
        _ => runtime.shutdown_timeout(LAST_WRITES),
    }
    result.map_or_else(
        |error| {
            tracing::error!("{error}");
            Exit::from(&error)
        },
        Exit::from,
    )
}
