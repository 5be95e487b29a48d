//! One external command, run to its end, with an error that tells everything about a failure.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// How much of a failed command's output an error shows, in bytes from the end.
const SHOWN_OUTPUT: usize = 4000;

/// A command to run to its end. Standard input is empty unless [`Run::input`] gives some.
#[derive(Debug)]
pub struct Run {
    command: Command,
    input: Vec<u8>,
}

impl Run {
    /// A run of `program`, which is looked up in `PATH`.
    #[must_use]
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self { command: Command::new(program), input: Vec::new() }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Gives the command these bytes on its standard input. For short input only: they are written
    /// before any output is read.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// Runs the command and returns its standard output.
    ///
    /// # Errors
    /// The command cannot be started, exits with a code other than 0, or prints something that is not UTF-8.
    pub fn output(self) -> Result<String> {
        let shown = self.to_string();
        let output = self.finish()?;
        String::from_utf8(output.stdout)
            .with_context(|| format!("`{shown}` printed something that is not UTF-8"))
    }

    /// Runs the command and returns its standard output, whatever it is.
    ///
    /// # Errors
    /// The command cannot be started, or exits with a code other than 0.
    pub fn bytes(self) -> Result<Vec<u8>> {
        Ok(self.finish()?.stdout)
    }

    /// Runs the command and returns what it printed, standard output and standard error.
    ///
    /// # Errors
    /// As [`Run::output`].
    pub fn both(self) -> Result<(String, String)> {
        let output = self.finish()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((text(&output.stdout), text(&output.stderr)))
    }

    /// Runs the command for its effect.
    ///
    /// # Errors
    /// As [`Run::output`].
    pub fn run(self) -> Result<()> {
        self.finish().map(drop)
    }

    /// Whether the command exits with 0.
    ///
    /// # Errors
    /// The command cannot be started.
    pub fn succeeds(self) -> Result<bool> {
        Ok(self.collect()?.status.success())
    }

    /// Runs a command that must fail and returns what it printed to standard error.
    ///
    /// # Errors
    /// The command cannot be started, or succeeds.
    pub fn fails(self) -> Result<String> {
        let shown = self.to_string();
        let output = self.collect()?;
        if output.status.success() {
            bail!("`{shown}` succeeded, but had to fail");
        }
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// The command behind this run, for callers that keep the process.
    #[must_use]
    pub fn into_command(self) -> Command {
        self.command
    }

    fn finish(self) -> Result<Output> {
        let shown = self.to_string();
        let output = self.collect()?;
        if output.status.success() {
            return Ok(output);
        }
        bail!(
            "`{shown}` ended with {}\nstandard error: {}\nstandard output: {}",
            output.status,
            tail(&output.stderr),
            tail(&output.stdout)
        )
    }

    fn collect(mut self) -> Result<Output> {
        let shown = self.to_string();
        let mut child = self
            .command
            .stdin(if self.input.is_empty() { Stdio::null() } else { Stdio::piped() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start `{shown}`"))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(&self.input).with_context(|| format!("write to `{shown}`"))?;
        }
        child.wait_with_output().with_context(|| format!("wait for `{shown}`"))
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<OsString> = std::iter::once(self.command.get_program())
            .chain(self.command.get_args())
            .map(OsStr::to_owned)
            .collect();
        write!(f, "{}", words.join(OsStr::new(" ")).to_string_lossy())
    }
}

fn tail(bytes: &[u8]) -> String {
    let start = bytes.len().saturating_sub(SHOWN_OUTPUT);
    String::from_utf8_lossy(bytes.get(start..).unwrap_or_default()).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_tells_command_code_and_stderr() {
        let error = Run::new("sh").args(["-c", "echo lost >&2; exit 3"]).run().unwrap_err().to_string();
        assert!(error.contains("sh -c"), "{error}");
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.contains("standard error: lost"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = Run::new("no-such-program-anywhere").run().unwrap_err().to_string();
        assert!(error.contains("no-such-program-anywhere"), "{error}");
    }

    #[test]
    fn input_reaches_the_command() {
        assert_eq!(Run::new("cat").input("a\nb").output().unwrap(), "a\nb");
    }
}
