//! `cargo xtask bench`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Arguments {}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    match *arguments {}
}
