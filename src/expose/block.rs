//! The writable block of a snapshot: an ext4 file with `upper/` and `work/` in it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Classify, Kind, io_kind};
use crate::layer::RootAttributes;

/// A writable block that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// mkfs.ext4 failed.
    #[error("mkfs.ext4 could not format {}: {stderr}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it said.
        stderr: String,
    },
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Io { source, .. } => io_kind(source),
            Self::Format { .. } => Kind::Internal,
        }
    }
}

/// Makes writable blocks.
#[derive(Debug, Default)]
pub struct BlockTemplates;

impl BlockTemplates {
    /// Without any template yet.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }

    /// Makes `path`, an ext4 file of `size` bytes, whose `upper/` has the attributes `root`.
    /// `scratch` is a directory for temporary files, on the same file system.
    ///
    /// # Errors
    /// If the file cannot be written or formatted.
    pub fn create(&self, path: &Path, size: u64, root: &RootAttributes, scratch: &Path) -> Result<(), Error> {
        let content = scratch.join("block-content");
        let upper = content.join("upper");
        make_directory(&content, 0o755)?;
        make_directory(&upper, root.mode.into())?;
        make_directory(&content.join("work"), 0o711)?;
        chown(&upper, Some(root.uid), Some(root.gid)).map_err(io_error("change the owner of", &upper))?;
        File::create_new(path).and_then(|file| file.set_len(size)).map_err(io_error("create", path))?;
        let output = Command::new("mkfs.ext4")
            .args(["-q", "-F", "-d"])
            .args([&content, path])
            .output()
            .map_err(io_error("run mkfs.ext4 for", path))?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Error::Format { path: path.to_owned(), stderr });
        }
        fs::remove_dir_all(&content).map_err(io_error("delete", &content))
    }
}

fn make_directory(path: &Path, mode: u32) -> Result<(), Error> {
    fs::DirBuilder::new().mode(0o700).create(path).map_err(io_error("create", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(io_error("change the mode of", path))
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { operation, path: path.to_owned(), source }
}
