//! The process: started with the tar as its standard input, ended and collected in every case.

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::Path;
use std::process::{self, ChildStderr, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use super::{Error, Stop};

/// The program, which `PATH` finds.
pub(super) const PROGRAM: &str = "mkfs.erofs";

/// Most bytes of what it says that are kept.
const SAID_MAX: u64 = 4096;

/// How often somebody who waits for its end is asked whether to wait on.
const PATIENCE: Duration = Duration::from_millis(50);

/// A running mkfs.erofs. Dropped, it is killed and collected.
#[derive(Debug)]
pub(super) struct Child {
    process: process::Child,
    input: Option<ChildStdin>,
    /// What it said, once it has closed its standard error, which it does by ending.
    said: Receiver<String>,
    collected: bool,
}

impl Child {
    /// Starts the program with files of its own in `directory`.
    pub(super) fn start(arguments: Vec<OsString>, directory: &Path) -> Result<Self, Error> {
        let mut process = Command::new(PROGRAM)
            .args(arguments)
            .env("TMPDIR", directory)
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(Error::Start)?;
        let (input, stderr) = (process.stdin.take(), process.stderr.take());
        let (sender, said) = channel();
        let child = Self { process, input, said, collected: false };
        let listener = thread::Builder::new().name("mkfs".to_owned());
        // From here on a failure drops the child, which ends the process.
        listener.spawn(move || drop(sender.send(listen(stderr)))).map_err(Error::Start)?;
        Ok(child)
    }

    /// Where the tar goes. The caller drops it at the tar's end.
    pub(super) fn input(&mut self) -> Option<ChildStdin> {
        self.input.take()
    }

    /// Waits until the program has ended by itself, or ends it once `stop` returns true.
    pub(super) fn end(mut self, stop: Stop<'_>) -> Result<(), Error> {
        drop(self.input.take());
        let said = loop {
            match self.said.recv_timeout(PATIENCE) {
                Ok(said) => break said,
                Err(RecvTimeoutError::Timeout) if stop() => return Err(Error::Stopped),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break String::new(),
            }
        };
        let status = self.collect().map_err(Error::Start)?;
        if status.success() { Ok(()) } else { Err(Error::Program { status, said }) }
    }

    fn collect(&mut self) -> io::Result<ExitStatus> {
        let status = self.process.wait()?;
        self.collected = true;
        Ok(status)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.collected {
            // It may have ended by itself; collecting it is what counts.
            let _ = self.process.kill();
            let _ = self.collect();
        }
    }
}

/// Reads what the program says to its end, and keeps the start.
fn listen(stderr: Option<ChildStderr>) -> String {
    let Some(mut stderr) = stderr else { return String::new() };
    let mut said = Vec::new();
    // What cannot be read is not worth more than the exit status.
    let _ = stderr.by_ref().take(SAID_MAX).read_to_end(&mut said);
    let _ = io::copy(&mut stderr, &mut io::sink());
    String::from_utf8_lossy(&said).trim().to_owned()
}
