//! Command lines: arguments in, exit code out. One module for each program.

mod exit;
pub mod snapshotter;
pub mod tool;

use clap::error::ErrorKind;

use self::exit::Exit;

/// Prints what clap has to say: help and version are asked for, the rest is a mistake.
fn explain(error: &clap::Error) -> Exit {
    // Nobody is left to tell if even this cannot be printed.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Success,
        _ => Exit::Usage,
    }
}
