//! Whether containerd and the runtimes see what the daemon mounts.

use std::fs;
use std::path::{Path, PathBuf};

use super::mountinfo;
use crate::store::Error;

/// Whether mounts below a directory are seen outside the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// By everything in the host's mount namespace.
    Host,
    /// By whatever shares the mount that the directory is in.
    Shared,
    /// By the daemon alone, or by few: the mount of the directory is private.
    Private {
        /// The mount that keeps it from being seen.
        mount: PathBuf,
    },
}

/// Whether mounts below `directory` are seen outside this process.
///
/// # Errors
/// If `/proc` does not say.
pub fn of(directory: &Path) -> Result<Visibility, Error> {
    // A process without the right to look at init is in a container, and so in another namespace.
    let host = fs::read_link("/proc/1/ns/mnt").ok();
    let own = Path::new("/proc/self/ns/mnt");
    if host == Some(fs::read_link(own).map_err(Error::io("read", own))?) {
        return Ok(Visibility::Host);
    }
    let entries = mountinfo::read()?;
    let holds = |entry: &&mountinfo::Entry| directory.starts_with(&entry.point);
    // The deepest mount above it; of several on one point the last.
    let nearest = entries.iter().filter(holds).max_by_key(|entry| entry.point.components().count());
    Ok(match nearest {
        Some(entry) if !entry.is_shared => Visibility::Private { mount: entry.point.clone() },
        _ => Visibility::Shared,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_on_this_machine_has_an_answer() {
        let directory = tempfile::tempdir().unwrap();
        let visibility = of(directory.path()).unwrap();
        if let Visibility::Private { mount } = visibility {
            assert!(directory.path().starts_with(mount));
        }
    }
}
