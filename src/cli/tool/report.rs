//! What is printed: a line for each thing, or all of them as a JSON array.

use std::io::{self, Write};

use serde::Serialize;

use super::error::Error;

/// How the tool talks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Console {
    /// JSON on standard output, in place of lines.
    pub(super) json: bool,
    /// Neither lines nor progress.
    pub(super) quiet: bool,
}

/// One thing that is told.
pub(super) trait Line: Serialize {
    /// As text, without an end of line.
    fn text(&self) -> String;
}

/// What is told, in the order in which things happened.
#[derive(Debug)]
pub(super) struct Report<L> {
    lines: Vec<L>,
}

impl<L> Default for Report<L> {
    fn default() -> Self {
        Self { lines: Vec::new() }
    }
}

impl<L: Line> Report<L> {
    pub(super) fn add(&mut self, line: L) {
        self.lines.push(line);
    }

    pub(super) fn lines(&self) -> &[L] {
        &self.lines
    }

    /// Prints everything on standard output.
    pub(super) fn print(&self, console: Console) -> Result<(), Error> {
        if console.json {
            // Lines of texts and numbers always have a JSON form.
            return print(&serde_json::to_string_pretty(&self.lines).unwrap_or_default());
        }
        self.lines.iter().filter(|_| !console.quiet).try_for_each(|line| print(&line.text()))
    }
}

/// Prints a text and an end of line. A reader that has seen enough is no failure.
pub(super) fn print(text: &str) -> Result<(), Error> {
    let mut output = io::stdout().lock();
    match writeln!(output, "{text}").and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Output(error)),
        _ => Ok(()),
    }
}
