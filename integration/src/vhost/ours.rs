//! Our own exporter, as a process for each disk.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::exporter::Exporter;

/// The serial number that a guest finds, unless another was asked for.
pub const SERIAL: &str = "export";

/// What is exported.
#[derive(Clone, Copy, Debug)]
pub enum Disk<'a> {
    /// One file as it is, read-only.
    File(&'a Path),
    /// Merged metadata and the layers behind it, oldest first, read-only.
    Layers {
        /// The metadata.
        metadata: &'a Path,
        /// The layers' files.
        layers: &'a [PathBuf],
    },
    /// A partition for each layer, read-only. Layers are given oldest first.
    Partitions(&'a [PathBuf]),
    /// A file that the guest writes to.
    Block(&'a Path),
}

/// Whether what a guest reads is checked against the layers' trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// It is not.
    No,
    /// It is; each layer has its parameters beside it.
    Yes,
}

/// Exports a disk on `socket`. `programs` is where cargo put the project's programs.
///
/// # Errors
/// The exporter cannot be started, or refuses the disk.
pub fn export(programs: &Path, disk: &Disk<'_>, socket: &Path, verify: Verify) -> Result<Exporter> {
    export_as(programs, SERIAL, disk, socket, verify)
}

/// The same with a serial number of up to 20 characters.
///
/// # Errors
/// As [`export`].
pub fn export_as(
    programs: &Path,
    serial: &str,
    disk: &Disk<'_>,
    socket: &Path,
    verify: Verify,
) -> Result<Exporter> {
    let mut command = Command::new(programs.join("examples/vhost_export"));
    command.arg(socket).arg(serial);
    match disk {
        Disk::File(file) => command.arg("image").arg(file),
        Disk::Layers { metadata, layers } => command.arg("image").arg(metadata).args(*layers),
        Disk::Partitions(layers) => command.arg("partitions").args(*layers),
        Disk::Block(file) => command.arg("block").arg(file),
    };
    if verify == Verify::Yes {
        command.env("VERIFY", "1");
    }
    Exporter::start(command, socket).context("our exporter")
}
