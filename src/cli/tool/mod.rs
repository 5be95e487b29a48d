//! `nexuserofs`, the operator's tool.
//!
//! * `arguments`: what can be asked for. * `cache`: the verbs about layer caches.
//! * `layout`: OCI image layouts as a source of layers. * `report`: what is printed.

mod arguments;
mod cache;
mod error;
mod layout;
mod report;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

use self::arguments::{Arguments, CacheVerb, Verb};
use self::error::Error;
use self::report::{Report, State};
use super::exit::Exit;
use super::explain;

/// Runs the tool with these arguments, the first of which is the program's name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let exit = match Arguments::try_parse_from(arguments) {
        Ok(Arguments { json, verb: Verb::Cache(verb) }) => run(&verb, json),
        Err(error) => explain(&error),
    };
    exit.into()
}

fn run(verb: &CacheVerb, json: bool) -> Exit {
    let mut report = Report::default();
    let done = match verb {
        CacheVerb::Add { directory, sources } => cache::add(directory, sources, &mut report),
        CacheVerb::Export { directory, root } => cache::export(directory, root, &mut report),
        CacheVerb::List { directory } => cache::list(directory, &mut report),
        CacheVerb::Verify { directory } => cache::verify(directory, &mut report),
    };
    // What was done before a failure is done, and said.
    report.print(json);
    match done {
        Err(error) => {
            eprintln!("nexuserofs: {}", error::with_causes(&error));
            Exit::from(&error)
        }
        Ok(()) if report.has(State::Refused) => Exit::Data,
        Ok(()) => Exit::Success,
    }
}

impl From<&Error> for Exit {
    fn from(error: &Error) -> Self {
        match error {
            Error::Source { .. } => Self::Usage,
            Error::Layout { .. } | Error::Layer { .. } | Error::Mismatch { .. } => Self::Data,
            Error::Store(_) => Self::Fault,
        }
    }
}
