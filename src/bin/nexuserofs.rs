//! The operator's tool: everything is in the library, where tests reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    nexuserofs::cli::tool::main(std::env::args_os())
}
