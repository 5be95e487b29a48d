//! qemu-storage-daemon, QEMU's exporter of disks.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::exporter::Exporter;
use crate::cache::Cache;
use crate::command::Run;
use crate::host::Recipe;
use crate::progress::Outcome;

/// Unpacked only: it runs with the libraries that came with it, so that every machine has the same one.
const PACKAGE: Recipe =
    Recipe { name: "qemu-utils", suite: "sid", variant: "extract", packages: &["qemu-utils"] };

/// Where its libraries lie below the root.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
/// What loads them.
const LOADER: &str = "usr/lib64/ld-linux-x86-64.so.2";

/// The program.
#[derive(Clone, Debug)]
pub struct StorageDaemon {
    root: PathBuf,
}

/// How the daemon reads its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aio {
    /// By threads, its default.
    Threads,
    /// By io_uring.
    IoUring,
}

/// Which of the daemon's threads serves the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thread {
    /// The one that does everything else too, its default.
    Main,
    /// One of the disk's own, an iothread: it looks at the ring for a while before it sleeps (`poll-max-ns`, 32768 unless
    /// told otherwise).
    Own,
}

/// How the daemon serves a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// How it reads.
    pub aio: Aio,
    /// Where it waits.
    pub thread: Thread,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self { aio: Aio::Threads, thread: Thread::Main },
        Self { aio: Aio::IoUring, thread: Thread::Main },
        Self { aio: Aio::Threads, thread: Thread::Own },
        Self { aio: Aio::IoUring, thread: Thread::Own },
    ];

    /// What it is called in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match (self.aio, self.thread) {
            (Aio::Threads, Thread::Main) => "threads",
            (Aio::IoUring, Thread::Main) => "io_uring",
            (Aio::Threads, Thread::Own) => "threads, iothread",
            (Aio::IoUring, Thread::Own) => "io_uring, iothread",
        }
    }
}

impl Aio {
    /// QEMU's name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Threads => "threads",
            Self::IoUring => "io_uring",
        }
    }
}

impl StorageDaemon {
    /// Unpacks the program, unless the cache has it.
    ///
    /// # Errors
    /// mmdebstrap fails.
    pub fn make(cache: &Cache) -> Result<(Self, Outcome)> {
        let (root, outcome) = PACKAGE.in_cache(cache)?;
        Ok((Self { root }, outcome))
    }

    /// Its version, as it says it.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn version(&self) -> Result<String> {
        let command = self.command();
        let run = Run::new(command.get_program()).args(command.get_args());
        let said = run.arg("--version").output()?;
        Ok(said.lines().next().unwrap_or_default().to_owned())
    }

    /// What it is told to export a file in one of its formats, as `raw` or `vmdk`.
    #[must_use]
    pub fn arguments(format: &str, file: &Path, socket: &Path, way: Way) -> Vec<String> {
        // A comma separates options; doubled it stands for itself.
        let quoted = |path: &Path| path.display().to_string().replace(',', ",,");
        let protocol = format!(
            "driver=file,node-name=file,filename={},aio={},cache.direct=off,read-only=on",
            quoted(file),
            way.aio.name()
        );
        let disk = format!("driver={format},node-name=disk,file=file,read-only=on");
        let export = format!(
            "type=vhost-user-blk,id=export,node-name=disk,addr.type=unix,addr.path={}",
            quoted(socket)
        );
        let (thread, export) = match way.thread {
            Thread::Main => (&[][..], export),
            Thread::Own => (&["--object", "iothread,id=thread"][..], export + ",iothread=thread"),
        };
        let rest = ["--blockdev", &protocol, "--blockdev", &disk, "--export", &export];
        thread.iter().copied().chain(rest).map(str::to_owned).collect()
    }

    /// Exports a file, read-only.
    ///
    /// # Errors
    /// It cannot be started, or refuses the file.
    pub fn export(&self, format: &str, file: &Path, socket: &Path, way: Way) -> Result<Exporter> {
        let mut command = self.command();
        command.args(Self::arguments(format, file, socket, way));
        Exporter::start(command, socket).context("qemu-storage-daemon")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.root.join(LOADER));
        command.arg("--library-path").arg(self.root.join(LIBRARIES));
        command.arg(self.root.join("usr/bin/qemu-storage-daemon"));
        command
    }
}
