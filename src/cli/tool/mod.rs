//! `nexuserofs`, the operator's tool.
//!
//! * `arguments`: what can be asked for. One module for each verb: `build`, `cache`,
//!   `convert`, `device`, `devices` (with `run-vm`), `doctor`, `export` (with `exports`), `inspect`, `manifest`,
//!   `mount` (with `umount`), `policy`, `verify`.
//! * `oci`: images in OCI image layouts. * `source`: what layers are built of. * `subject`: what is looked at;
//!   `survey`: the metadata of such.
//! * `output`: files that are made. * `report`: what is printed. * `progress`: a bar meanwhile.
//! * `names`: the paths of files in images.

mod arguments;
mod build;
mod cache;
mod convert;
mod device;
mod devices;
mod doctor;
mod error;
mod export;
mod inspect;
mod manifest;
mod mount;
mod names;
mod oci;
mod output;
mod policy;
mod progress;
mod report;
mod source;
mod subject;
mod survey;
mod verify;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

use self::arguments::{Arguments, Verb};
use self::report::Console;
use super::exit::Exit;
use super::explain;

/// Runs the tool with these arguments, the first of which is the program's name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let exit = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => run(&arguments),
        Err(error) => explain(&error),
    };
    exit.into()
}

fn run(arguments: &Arguments) -> Exit {
    let console = Console { json: arguments.json, quiet: arguments.quiet };
    let done = match &arguments.verb {
        Verb::Build(asked) => build::run(asked, console),
        Verb::Cache(verb) => cache::run(verb, console),
        Verb::Convert(asked) => convert::run(asked, console),
        Verb::Device(asked) => device::run(asked, console),
        Verb::Devices(asked) => devices::run(asked, console),
        Verb::Export(asked) => export::serve(asked),
        Verb::Exports(asked) => export::list(asked, console),
        Verb::RunVm(asked) => devices::run_vm(asked, console),
        Verb::Doctor(asked) => doctor::run(asked, console),
        Verb::Inspect(asked) => inspect::run(asked, console),
        Verb::Mount(asked) => mount::mount(asked, console),
        Verb::Umount(asked) => mount::umount(asked, console),
        Verb::Verify(asked) => verify::run(asked, console),
        Verb::Manifest(verb) => manifest::run(verb, console),
        Verb::Policy(verb) => policy::run(verb),
    };
    done.unwrap_or_else(|error| {
        eprintln!("nexuserofs: {}", error::with_causes(&error));
        Exit::from(&error)
    })
}
