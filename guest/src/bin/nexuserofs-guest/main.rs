//! `nexuserofs-guest`: makes a root file system in a guest of the layers that a policy allows, or refuses.
//!
//! It is linked statically and needs no shell, no udev, no dynamic loader and no writable root.
//!
//! * `arguments`: what it can be asked for. * `run`: doing it. * `inputs`: policy and description, from where
//!   they are. * `init`: as the first process. * `modules`: the kernel's modules.
//! * `failure`: errors, exit codes, and how they are told.

mod arguments;
mod failure;
mod init;
mod inputs;
mod modules;
mod run;

use std::process::ExitCode;

fn main() -> ExitCode {
    let parsed = arguments::Arguments::parse(std::env::args_os());
    match parsed.map_err(failure::Failure::from).and_then(|arguments| run::run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.tell();
            failure.code().into()
        }
    }
}
