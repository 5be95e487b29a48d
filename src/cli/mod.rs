//! Command lines: arguments in, exit code out. One module for each program.

mod exit;
pub mod snapshotter;
