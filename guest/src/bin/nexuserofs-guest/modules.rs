//! The kernel's modules, for kernels that have not all of it built in.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::system::finit_module;

use crate::failure::Failure;

/// Loads every module (`*.ko`, not compressed) in a directory, in the order of their names. Without the
/// directory there is nothing to load.
pub(crate) fn load(directory: &Path) -> Result<(), Failure> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(Failure::file("read", directory))?,
    };
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.map_err(Failure::file("read", directory))?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "ko"));
    paths.sort();
    paths.iter().try_for_each(|path| load_one(path).map_err(Failure::file("load the module", path)))
}

fn load_one(path: &Path) -> io::Result<()> {
    match finit_module(File::open(path)?, c"", 0) {
        // Loaded already, or built in.
        Err(Errno::EXIST) => Ok(()),
        loaded => Ok(loaded?),
    }
}
