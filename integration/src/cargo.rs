//! What cargo builds of the project.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::bed::project;
use crate::command::Run;
use crate::progress::Outcome;

/// How the project's programs are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// With overflow checks, for tests.
    Debug,
    /// Optimised, for whatever is timed.
    Release,
}

/// Builds our programs, examples in a directory of their own, and returns the directory in which cargo put them.
///
/// # Errors
/// cargo fails.
pub fn build(profile: Profile) -> Result<(PathBuf, Outcome)> {
    let build = Run::new(cargo())
        .args(["build", "--quiet", "--package", "nexuserofs", "--bins", "--examples"])
        .dir(project());
    let (build, directory) = match profile {
        Profile::Debug => (build, "debug"),
        Profile::Release => (build.arg("--release"), "release"),
    };
    build.run()?;
    Ok((target_directory()?.join(directory), Outcome::Done))
}

/// The target for which the guest's program is built: static, without a C library of the guest's.
const GUEST_TARGET: &str = "x86_64-unknown-linux-musl";

/// Builds the guest's program and returns its file.
///
/// # Errors
/// cargo fails.
pub fn guest_program() -> Result<(PathBuf, Outcome)> {
    Run::new(cargo())
        .args(["build", "--quiet", "--package", "nexuserofs-guest", "--bin", "nexuserofs-guest"])
        .args(["--profile", "guest", "--target", GUEST_TARGET])
        .dir(project())
        .run()?;
    let directory = target_directory()?.join(GUEST_TARGET).join("guest");
    Ok((directory.join("nexuserofs-guest"), Outcome::Done))
}

/// cargo's target directory: this program lies in `TARGET/PROFILE` or `TARGET/PROFILE/deps`.
fn target_directory() -> Result<PathBuf> {
    let program = env::current_exe().context("find this program's own file")?;
    let mut dir = program.parent().context("this program's file has no directory")?;
    if dir.ends_with("deps") {
        dir = dir.parent().unwrap_or(dir);
    }
    Ok(dir.parent().context("this program does not lie in cargo's target directory")?.to_owned())
}

/// A line of cargo's messages about what it made.
#[derive(Debug, Deserialize)]
struct Message {
    /// The program, for a message about one.
    executable: Option<PathBuf>,
}

/// A test program of a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tests {
    /// Those in its library.
    Library,
    /// Those in this directory or file of `tests/`.
    Named(&'static str),
}

/// Builds one of a package's test programs and returns its file.
///
/// # Errors
/// cargo fails, or makes no such program.
pub fn test_program(package: &str, tests: Tests) -> Result<(PathBuf, Outcome)> {
    let build = Run::new(cargo())
        .args(["test", "--quiet", "--no-run", "--message-format=json", "--package", package])
        .dir(project());
    let (build, name) = match tests {
        Tests::Library => (build.arg("--lib"), package),
        Tests::Named(name) => (build.args(["--test", name]), name),
    };
    let messages = build.output()?;
    // Of dependencies and of the package's other programs there are messages before it.
    let program = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok()?.executable)
        .find(|file| is_named(file, name));
    Ok((program.with_context(|| format!("cargo made no test program {name}"))?, Outcome::Done))
}

/// Whether this is `NAME-HASH`.
fn is_named(program: &Path, name: &str) -> bool {
    let file = program.file_name().and_then(|file| file.to_str());
    file.and_then(|file| file.rsplit_once('-')).is_some_and(|(found, _)| found == name)
}

fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_from_others_of_their_package() {
        assert!(is_named(Path::new("/target/debug/deps/host-0123abcd"), "host"));
        assert!(!is_named(Path::new("/target/debug/deps/host_more-0123abcd"), "host"));
        assert!(!is_named(Path::new("/target/debug/host"), "host"));
    }
}
