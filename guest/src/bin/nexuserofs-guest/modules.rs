//! The kernel's modules, for kernels that have not all of it built in.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::system::finit_module;

use crate::failure::Failure;

/// `MODULE_INIT_COMPRESSED_FILE` of `linux/module.h`: the kernel decompresses it, if it was built with that.
const COMPRESSED: i32 = 4;

/// Loads every module in a directory, `*.ko` and compressed ones such as `*.ko.xz`, in the order of their names.
/// Without the directory there is nothing to load.
pub(crate) fn load(directory: &Path) -> Result<(), Failure> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(Failure::file("read", directory))?,
    };
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.map_err(Failure::file("read", directory))?;
    paths.sort();
    paths.iter().try_for_each(|path| load_one(path).map_err(Failure::file("load the module", path)))
}

fn load_one(path: &Path) -> io::Result<()> {
    let is_plain = path.extension().is_some_and(|extension| extension == "ko");
    match finit_module(File::open(path)?, c"", if is_plain { 0 } else { COMPRESSED }) {
        // Loaded already, or built in.
        Err(Errno::EXIST) => Ok(()),
        loaded => Ok(loaded?),
    }
}
