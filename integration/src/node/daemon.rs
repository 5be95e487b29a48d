//! Our own daemon, as a process.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result, ensure};

use super::log;
use super::service::Service;
use crate::stage::Place;

/// File name of the daemon's program.
pub const PROGRAM: &str = "nexuserofs-snapshotter";

/// How the daemon is started.
#[derive(Clone, Debug, Default)]
pub struct DaemonOptions {
    /// Size of the writable block of an active snapshot, as the flag takes it. Without it, a directory.
    pub default_size: Option<&'static str>,
    /// The containerd namespace of requests that name none, if it is not `default`.
    pub namespace: Option<&'static str>,
    /// How much it logs.
    pub log_level: LogLevel,
    /// What its settings file says, in TOML. Without it, there is no file.
    pub settings: Option<String>,
}

/// How much the daemon logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Whatever helps to understand a failed test.
    #[default]
    Debug,
    /// What it logs in production.
    Info,
}

impl LogLevel {
    const fn flag(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
        }
    }
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    service: Service,
    program: PathBuf,
    root: PathBuf,
    socket: PathBuf,
    containerd: PathBuf,
    log: PathBuf,
    options: DaemonOptions,
}

/// The socket that a node's daemon serves.
pub(super) fn socket(node: &Path) -> PathBuf {
    node.join("nexuserofs.sock")
}

/// The directory with a daemon's data.
pub(super) fn root(node: &Path) -> PathBuf {
    node.join("nexuserofs")
}

impl Daemon {
    /// Starts a daemon for the node in `dir`.
    ///
    /// # Errors
    /// The program was not built, or does not come up.
    pub(super) fn start(
        dir: &Path,
        place: &Place,
        containerd: &Path,
        options: &DaemonOptions,
    ) -> Result<Self> {
        let program = place.programs.join(PROGRAM);
        ensure!(program.is_file(), "{PROGRAM} is not built: run `cargo build --bins` first");
        let (socket, log) = (socket(dir), dir.join("nexuserofs.log"));
        let root = root(dir);
        let service = spawn(&program, &root, &socket, containerd, &log, options)?;
        let mut daemon = Self {
            service,
            program,
            root,
            socket,
            containerd: containerd.to_owned(),
            log,
            options: options.clone(),
        };
        daemon.wait_ready()?;
        Ok(daemon)
    }

    /// Starts the daemon again after it ended, on the same root.
    ///
    /// # Errors
    /// It does not come up.
    pub fn restart(&mut self) -> Result<()> {
        self.service =
            spawn(&self.program, &self.root, &self.socket, &self.containerd, &self.log, &self.options)?;
        self.wait_ready()
    }

    /// Ends the daemon by SIGTERM.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.service.stop()
    }

    /// Ends the daemon by SIGKILL.
    ///
    /// # Errors
    /// It cannot be signalled.
    pub fn kill(&mut self) -> Result<()> {
        self.service.kill().map(drop)
    }

    /// The directory with its layers, snapshots and records.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.service.pid()
    }

    /// Everything that it logged so far, over all its lives.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn log(&self) -> Result<String> {
        self.service.log()
    }

    /// The calls that it answered so far, over all its lives.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn calls(&self) -> Result<Vec<log::Call>> {
        log::calls(&self.service.log()?)
    }

    /// The EROFS files of all layers.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn layers(&self) -> Result<Vec<PathBuf>> {
        let mut layers: Vec<PathBuf> = self
            .entries("layers")?
            .into_iter()
            .map(|entry| entry.join("layer.erofs"))
            .filter(|file| file.exists())
            .collect();
        layers.sort();
        Ok(layers)
    }

    /// What lies in one of the directories of the daemon's root.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn entries(&self, directory: &str) -> Result<Vec<PathBuf>> {
        let dir = self.root.join(directory);
        fs::read_dir(&dir)
            .with_context(|| format!("read {}", dir.display()))?
            .map(|entry| Ok(entry?.path()))
            .collect()
    }

    fn wait_ready(&mut self) -> Result<()> {
        let socket = self.socket.clone();
        self.service.wait_until(|| Ok(UnixStream::connect(&socket).is_ok()))
    }
}

fn spawn(
    program: &Path,
    root: &Path,
    socket: &Path,
    containerd: &Path,
    log: &Path,
    options: &DaemonOptions,
) -> Result<Service> {
    let mut command = Command::new(program);
    command.arg("--root").arg(root).arg("--address").arg(socket);
    command.arg("--containerd-address").arg(containerd);
    command.args(["--log-level", options.log_level.flag(), "--log-format", "json"]);
    if let Some(size) = options.default_size {
        command.args(["--default-size", size]);
    }
    if let Some(settings) = &options.settings {
        let file = root.with_extension("toml");
        fs::write(&file, settings).with_context(|| format!("write {}", file.display()))?;
        command.arg("--config").arg(file);
    }
    if let Some(namespace) = options.namespace {
        command.args(["--containerd-namespace", namespace]);
    }
    Service::start(PROGRAM, command, log)
}
