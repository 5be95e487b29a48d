//! New directories are filled out of sight and renamed into place.

use std::fs::{self, DirBuilder};
use std::mem::{self, ManuallyDrop};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::unique::Unique;
use super::{Error, tree};

/// The directory below which everything new is made. What is left in it after a crash belongs to nobody.
#[derive(Clone, Debug)]
pub struct StagingArea {
    path: PathBuf,
}

impl StagingArea {
    /// Uses `path`, an existing directory on the file system that holds the final places.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in the area that nothing else uses. Nothing is created.
    ///
    /// # Errors
    /// If the kernel has no random numbers yet.
    pub fn unused(&self, prefix: &str) -> Result<PathBuf, Error> {
        let unique = Unique::new().map_err(Error::io("name a directory in", &self.path))?;
        Ok(self.path.join(format!("{prefix}{unique}")))
    }

    /// A new, empty directory with mode 0700.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn scratch(&self) -> Result<Scratch, Error> {
        let path = self.unused("")?;
        DirBuilder::new().mode(0o700).create(&path).map_err(Error::io("create", &path))?;
        Ok(Scratch { path })
    }
}

/// A directory in the staging area. It is deleted on drop, with all that is in it.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Renames the directory to `place`, which must not exist or be an empty directory.
    ///
    /// # Errors
    /// If the operating system refuses; then the directory is deleted.
    pub fn publish(self, place: &Path) -> Result<(), Error> {
        fs::rename(&self.path, place).map_err(Error::io("rename a new directory to", place))?;
        // Nothing is left to delete, and to find that out would take three system calls.
        drop(mem::take(&mut ManuallyDrop::new(self).path));
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = tree::remove(&self.path, &AtomicBool::new(false)) {
            tracing::warn!(%error, "a staging directory stays behind; the next start sweeps it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_directory_is_deleted_with_its_content() {
        let root = tempfile::tempdir().unwrap();
        let area = StagingArea::new(root.path().to_owned());
        let scratch = area.scratch().unwrap();
        fs::create_dir_all(scratch.path().join("a/b")).unwrap();
        drop(scratch);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_published_directory_stays() {
        let root = tempfile::tempdir().unwrap();
        let area = StagingArea::new(root.path().to_owned());
        let scratch = area.scratch().unwrap();
        fs::write(scratch.path().join("f"), "x").unwrap();
        scratch.publish(&root.path().join("place")).unwrap();
        assert_eq!(fs::read(root.path().join("place/f")).unwrap(), b"x");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_that_cannot_be_published_is_deleted() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("place/full")).unwrap();
        let area = StagingArea::new(root.path().to_owned());
        assert!(area.scratch().unwrap().publish(&root.path().join("place")).is_err());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
