//! Our own exporter: `nexuserofs export`, a process for each disk, as confined as those that the daemon starts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::exporter::Exporter;

/// The serial number of a disk of layers.
pub const IMAGE: &str = "image";
/// The serial number of a disk that the guest writes to.
pub const WRITABLE: &str = "writable";

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
    /// A partition for each of at least two layers, read-only. Layers are given oldest first.
    Partitions(&'a [PathBuf]),
    /// A file that the guest writes to.
    Block(&'a Path),
}

/// Whether what a guest reads is checked against hash trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify<'a> {
    /// It is not.
    No,
    /// It is; each layer has its parameters beside it.
    Merged {
        /// The root hash of the tree over metadata and layers, which lies beside the metadata.
        root: &'a str,
    },
}

/// Exports a disk on a socket in `directory`, which is made if it is missing. `programs` is where cargo put the
/// project's programs.
///
/// # Errors
/// The exporter cannot be started, or refuses the disk.
pub fn export(programs: &Path, disk: &Disk<'_>, directory: &Path, verify: Verify<'_>) -> Result<Exporter> {
    fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    let mut command = Command::new(programs.join("nexuserofs"));
    command.arg("export").arg("--directory").arg(directory);
    match disk {
        Disk::File(file) => command.arg(file),
        Disk::Layers { metadata, layers } => command.arg("--metadata").arg(metadata).args(*layers),
        Disk::Partitions(layers) => command.args(*layers),
        Disk::Block(file) => command.arg("--writable").arg(file),
    };
    if let Verify::Merged { root } = verify {
        command.args(["--verify", "--root-hash", root]);
    }
    let serial = if matches!(disk, Disk::Block(_)) { WRITABLE } else { IMAGE };
    Exporter::start(command, &directory.join(format!("{serial}.sock"))).context("our exporter")
}
