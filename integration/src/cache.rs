//! The user's cache folder: what takes long to make is made once, whole or not at all.
//!
//! `$XDG_CACHE_HOME/nexuserofs` or `~/.cache/nexuserofs` holds one directory per entry, named
//! `NAME-KEY`. The key is a digest of whatever decides the contents, so a new recipe makes a new entry.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, IFlags, flock, ioctl_getflags, ioctl_setflags};
use sha2::{Digest, Sha256};

use crate::progress::Outcome;

/// Digest of everything that decides what an entry contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// The key of these parts, in this order.
    #[must_use]
    pub fn of<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            let part = part.as_ref();
            // The length keeps ("ab", "c") and ("a", "bc") apart.
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let hex: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Self(hex)
    }
}

/// The cache folder.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Opens the user's cache folder and makes it where it is missing.
    ///
    /// # Errors
    /// Neither `XDG_CACHE_HOME` nor `HOME` is set, or the folder cannot be made.
    pub fn open() -> Result<Self> {
        let base = match std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
            Some(base) => PathBuf::from(base),
            None => {
                let home = std::env::var_os("HOME")
                    .context("set HOME or XDG_CACHE_HOME: the cache folder lies below it")?;
                PathBuf::from(home).join(".cache")
            }
        };
        Self::at(base.join("nexuserofs"))
    }

    /// Opens a cache folder at a given place.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn at(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        fs::create_dir_all(&root).with_context(|| format!("make the cache folder {}", root.display()))?;
        Ok(Self { root })
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the entry's directory, after `make` has filled it if it is not there yet.
    ///
    /// `make` works in a directory of its own that is renamed when it succeeds: an entry is whole or
    /// absent. What an interrupted attempt left is removed by the next. While one process makes an entry,
    /// others that want it wait.
    ///
    /// # Errors
    /// `make` fails, or the file system does.
    pub fn entry(
        &self,
        name: &str,
        key: &Key,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<(PathBuf, Outcome)> {
        let entry = self.root.join(format!("{name}-{}", key.0));
        if entry.is_dir() {
            return Ok((entry, Outcome::AlreadyThere));
        }
        let _held = self.lock(name)?;
        if entry.is_dir() {
            return Ok((entry, Outcome::AlreadyThere));
        }
        let unfinished = self.root.join(format!("unfinished-{name}"));
        remove_tree(&unfinished)?;
        fs::create_dir(&unfinished).with_context(|| format!("make {}", unfinished.display()))?;
        make(&unfinished)?;
        fs::rename(&unfinished, &entry).with_context(|| format!("put {} in place", entry.display()))?;
        Ok((entry, Outcome::Done))
    }

    /// Whether the entry is there.
    #[must_use]
    pub fn holds(&self, name: &str, key: &Key) -> bool {
        self.root.join(format!("{name}-{}", key.0)).is_dir()
    }

    /// Waits for the right to make entries of this name. It ends when the file is dropped.
    fn lock(&self, name: &str) -> Result<File> {
        let path = self.root.join(format!("lock-{name}"));
        let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
        flock(&file, FlockOperation::LockExclusive).with_context(|| format!("lock {}", path.display()))?;
        Ok(file)
    }
}

/// Removes a tree that may not be there, layers of a daemon in it that are immutable included.
///
/// # Errors
/// The tree is there and cannot be removed.
pub fn remove_tree(path: &Path) -> Result<()> {
    let removed = fs::remove_dir_all(path).or_else(|error| match error.kind() {
        ErrorKind::PermissionDenied => release_immutable(path).and_then(|()| fs::remove_dir_all(path)),
        _ => Err(error),
    });
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Takes the immutable attribute from every file below a directory.
fn release_immutable(directory: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            release_immutable(&entry.path())?;
        } else if kind.is_file() {
            let file = File::open(entry.path())?;
            let attributes = ioctl_getflags(&file)?;
            if attributes.contains(IFlags::IMMUTABLE) {
                ioctl_setflags(&file, attributes - IFlags::IMMUTABLE)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path()).unwrap();
        let key = Key::of(["one"]);
        let (path, outcome) =
            cache.entry("thing", &key, |dir| Ok(fs::write(dir.join("file"), "made")?)).unwrap();
        assert_eq!(outcome, Outcome::Done);
        let (again, outcome) = cache.entry("thing", &key, |_| panic!("made twice")).unwrap();
        assert_eq!((again, outcome), (path.clone(), Outcome::AlreadyThere));
        assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "made");
    }

    #[test]
    fn a_failed_entry_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path()).unwrap();
        let key = Key::of(["one"]);
        let failed = cache.entry("thing", &key, |dir| {
            fs::write(dir.join("half"), "half")?;
            anyhow::bail!("interrupted")
        });
        assert!(failed.is_err());
        let (path, outcome) = cache.entry("thing", &key, |_| Ok(())).unwrap();
        assert_eq!(outcome, Outcome::Done);
        assert_eq!(fs::read_dir(path).unwrap().count(), 0, "what the failed attempt wrote is gone");
    }

    #[test]
    fn keys_tell_parts_apart() {
        assert_ne!(Key::of(["ab", "c"]), Key::of(["a", "bc"]));
        assert_eq!(Key::of(["ab", "c"]), Key::of(["ab", "c"]));
    }
}
