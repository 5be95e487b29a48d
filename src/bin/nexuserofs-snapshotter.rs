//! The daemon: everything is in the library, where tests reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    nexuserofs::cli::snapshotter::main(std::env::args_os())
}
