//! A process that exports a disk.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::unpack::cpu_seconds;

/// How long the socket may take to be there.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// A process that exports a disk. It ends when this is dropped.
#[derive(Debug)]
pub struct Exporter {
    child: Child,
    socket: PathBuf,
}

/// What a process has used and holds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Seconds of CPU, from its start.
    pub cpu_seconds: f64,
    /// Memory of its own, in bytes: no file's, and none that it shares with its front-end.
    pub own_bytes: u64,
}

impl Exporter {
    /// Starts a command that will listen on `socket`, and waits until it does. What it prints goes to a file
    /// beside the socket.
    ///
    /// # Errors
    /// It cannot be started, or ends, or does not listen in time.
    pub fn start(mut command: Command, socket: &Path) -> Result<Self> {
        let log = socket.with_extension("log");
        let output = fs::File::create(&log).with_context(|| format!("make {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("start {command:?}"))?;
        Self::adopt(child, socket, &log)
    }

    /// Waits until a process that was started already listens on `socket`.
    ///
    /// # Errors
    /// It ends, or does not listen in time. The error has what is in `log`.
    pub(super) fn adopt(child: Child, socket: &Path, log: &Path) -> Result<Self> {
        let mut exporter = Self { child, socket: socket.to_owned() };
        let begun = Instant::now();
        while UnixStream::connect(socket).is_err() {
            let ended = exporter.child.try_wait().context("look at the exporter")?;
            if ended.is_some() || begun.elapsed() > PATIENCE {
                let said = fs::read_to_string(log).unwrap_or_default();
                bail!("nobody listens on {}: {}", socket.display(), said.trim());
            }
            thread::sleep(PAUSE);
        }
        Ok(exporter)
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// The system cannot tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("look at the exporter")
    }

    /// Ends it at once.
    ///
    /// # Errors
    /// It cannot be ended.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.child.kill().and_then(|()| self.child.wait()).context("end the exporter")
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// It runs no more.
    pub fn usage(&self) -> Result<Usage> {
        let path = format!("/proc/{}/status", self.pid());
        let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let kibibytes = text.lines().find_map(|line| line.strip_prefix("RssAnon:")?.strip_suffix("kB"));
        let kibibytes: u64 = kibibytes.context("no RssAnon in the process's status")?.trim().parse()?;
        Ok(Usage { cpu_seconds: cpu_seconds(&[self.pid()])?, own_bytes: kibibytes * 1024 })
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}
