//! A long-running process of a node: started, waited for by its real interface, stopped by its pid.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long a process may take to become ready.
pub const READY: Duration = Duration::from_secs(60);
/// How long a process may take to end after SIGTERM.
const STOPPED: Duration = Duration::from_secs(30);
/// Pause between two looks at something that is waited for.
const PAUSE: Duration = Duration::from_millis(20);
/// How much of a log an error shows, in bytes from the end.
const SHOWN_LOG: usize = 4000;

/// A process whose output goes to a log file. Dropping it ends the process.
#[derive(Debug)]
pub struct Service {
    name: String,
    child: Child,
    log: PathBuf,
    /// Whether somebody ended the process, or saw it end.
    ended: bool,
}

impl Service {
    /// Starts `command`, with both output streams appended to `log`.
    ///
    /// # Errors
    /// The log cannot be opened or the program cannot be started.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let out = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("open {name}'s log {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stderr(out.try_clone()?)
            .stdout(out)
            .spawn()
            .with_context(|| format!("start {name}: {}", command.get_program().to_string_lossy()))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned(), ended: false })
    }

    /// Waits until `ready` says so, or the process ends, or [`READY`] has passed.
    ///
    /// # Errors
    /// The process is not ready in time; the error has the end of its log.
    pub fn wait_until(&mut self, ready: impl Fn() -> Result<bool>) -> Result<()> {
        let begun = Instant::now();
        let mut last = None;
        while begun.elapsed() < READY {
            if let Some(status) = self.child.try_wait()? {
                self.ended = true;
                bail!("{} ended with {status} before it was ready\n{}", self.name, self.log_tail());
            }
            match ready() {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => last = Some(error),
            }
            thread::sleep(PAUSE);
        }
        bail!("{} was not ready after {} s; last: {last:?}\n{}", self.name, READY.as_secs(), self.log_tail())
    }

    /// The process's id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything that the process wrote so far.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn log(&self) -> Result<String> {
        fs::read_to_string(&self.log).with_context(|| format!("read {}", self.log.display()))
    }

    /// Whether the process still runs.
    ///
    /// # Errors
    /// The process cannot be waited for.
    pub fn is_running(&mut self) -> Result<bool> {
        let running = self.child.try_wait()?.is_none();
        self.ended |= !running;
        Ok(running)
    }

    /// Ends the process by SIGTERM and waits for it.
    ///
    /// # Errors
    /// It does not end in time; then it is killed.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.ended = true;
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        self.signal(Signal::TERM)?;
        let begun = Instant::now();
        while begun.elapsed() < STOPPED {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(PAUSE);
        }
        self.kill()?;
        bail!("{} did not end within {} s of SIGTERM\n{}", self.name, STOPPED.as_secs(), self.log_tail())
    }

    /// Ends the process by SIGKILL, which it cannot see coming.
    ///
    /// # Errors
    /// The process cannot be signalled or waited for.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.ended = true;
        self.child.kill().with_context(|| format!("kill {}", self.name))?;
        Ok(self.child.wait()?)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("pid out of range")?;
        kill_process(pid, signal).with_context(|| format!("signal {}", self.name))
    }

    fn log_tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let start = text.len().saturating_sub(SHOWN_LOG);
        let shown = String::from_utf8_lossy(text.get(start..).unwrap_or_default());
        format!("end of {}:\n{shown}", self.log.display())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // What went wrong in the test is then most likely a consequence.
        if let (false, Ok(Some(status))) = (self.ended, self.child.try_wait()) {
            eprintln!("test bed: {} ended by itself with {status}\n{}", self.name, self.log_tail());
        }
        if let Err(error) = self.stop() {
            eprintln!("test bed: {error:#}");
        }
    }
}
