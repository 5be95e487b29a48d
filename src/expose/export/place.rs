//! Where the files of an export lie: `ROOT/exports/ID`, where ID is the snapshot's.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Error;
use crate::store;
use crate::sys::locks::Exclusive;

/// The directory of all exports, below the root.
pub const DIRECTORY: &str = "exports";

/// Who is served, for people: [`Owner`] in JSON.
const OWNER_NAME: &str = "export.json";
/// Locked by the process that serves.
const LOCK_NAME: &str = "lock";
/// Locked for reading by it while a monitor is connected to one of the disks.
const CONNECTED_NAME: &str = "connected";
/// What it did.
const TALLY_NAME: &str = "tally";

/// Only the owner comes in, as everywhere below the root.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// What a disk is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// All layers, which nobody writes to.
    Image,
    /// Where the snapshot's changes go.
    Writable,
}

impl Role {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Image, Self::Writable];

    /// What the guest finds as the disk's serial.
    #[must_use]
    pub const fn serial(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Writable => "writable",
        }
    }

    /// Base name of the socket.
    #[must_use]
    pub const fn socket_name(self) -> &'static str {
        match self {
            Self::Image => "image.sock",
            Self::Writable => "writable.sock",
        }
    }
}

/// Whose disks are served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The snapshotter's name; empty without a daemon.
    pub profile: String,
    /// The snapshot's key, as containerd gives it.
    pub key: String,
}

/// The directory of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    directory: PathBuf,
}

impl Place {
    /// The export in this directory.
    #[must_use]
    pub const fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The socket of a disk.
    #[must_use]
    pub fn socket(&self, role: Role) -> PathBuf {
        self.directory.join(role.socket_name())
    }

    /// Makes the directory, if it is missing.
    pub(super) fn create(&self) -> Result<(), Error> {
        let made = DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(&self.directory);
        Ok(made.map_err(store::Error::io("create", &self.directory))?)
    }

    /// Says whose disks are served here.
    pub(super) fn write_owner(&self, owner: &Owner) -> Result<(), Error> {
        Ok(store::sidecar::write(
            &self.directory.join(OWNER_NAME),
            owner,
            store::sidecar::Durability::Relaxed,
        )?)
    }

    /// Whose disks are served here.
    ///
    /// # Errors
    /// If nobody said so.
    pub fn owner(&self) -> Result<Owner, Error> {
        Ok(store::sidecar::read(&self.directory.join(OWNER_NAME))?)
    }

    /// The file that the process that serves here has locked.
    ///
    /// # Errors
    /// If there is no such export.
    pub(super) fn lock(&self) -> Result<File, store::Error> {
        let path = self.directory.join(LOCK_NAME);
        OpenOptions::new().read(true).write(true).open(&path).map_err(store::Error::io("open", &path))
    }

    /// The same, which is made if it is missing.
    pub(super) fn create_lock(&self) -> Result<File, Error> {
        self.open_or_create(LOCK_NAME)
    }

    /// The file that has a lock for reading on it while a monitor is connected, which is made if it is missing.
    pub(super) fn create_connected(&self) -> Result<File, Error> {
        self.open_or_create(CONNECTED_NAME)
    }

    /// Keeps monitors from connecting, as long as the answer lives. None if one is connected already.
    ///
    /// # Errors
    /// If it is not known whether one is connected: there is no process, or one of a release that does not tell.
    pub(super) fn close(&self) -> Result<Option<Exclusive>, store::Error> {
        let path = self.directory.join(CONNECTED_NAME);
        let file =
            OpenOptions::new().read(true).write(true).open(&path).map_err(store::Error::io("open", &path))?;
        Exclusive::new(file).map_err(store::Error::io("lock", &path))
    }

    /// The file that the process writes into what it did, which is made if it is missing.
    pub(super) fn create_tally(&self) -> Result<File, Error> {
        self.open_or_create(TALLY_NAME)
    }

    /// What the process wrote.
    pub(super) fn tally(&self) -> PathBuf {
        self.directory.join(TALLY_NAME)
    }

    fn open_or_create(&self, name: &str) -> Result<File, Error> {
        let path = self.directory.join(name);
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(&path);
        Ok(opened.map_err(store::Error::io("open", &path))?)
    }

    /// Listens at the socket of a disk. One that is there goes: whoever connects meets the new one or the old one, and
    /// never none.
    pub(super) fn listen(&self, role: Role) -> Result<UnixListener, Error> {
        let path = self.socket(role);
        let draft = self.directory.join(format!("{}.new", role.serial()));
        let bound = remove(&draft).and_then(|()| UnixListener::bind(&draft)).and_then(|listener| {
            fs::set_permissions(&draft, Permissions::from_mode(FILE_MODE))?;
            fs::rename(&draft, &path)?;
            Ok(listener)
        });
        bound.map_err(|source| Error::Listen { path, source })
    }

    /// Takes the socket of a disk away that nobody serves any more.
    pub(super) fn remove_socket(&self, role: Role) -> Result<(), Error> {
        let path = self.socket(role);
        Ok(remove(&path).map_err(store::Error::io("remove", &path))?)
    }

    /// Takes everything away.
    pub(super) fn remove(&self) -> Result<(), Error> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(store::Error::io("remove", &self.directory)(error).into())
            }
            _ => Ok(()),
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_new_socket_takes_the_place_of_the_old_one_and_is_the_owners() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::new(directory.path().join("id"));
        place.create().unwrap();
        let old = place.listen(Role::Image).unwrap();
        let new = place.listen(Role::Image).unwrap();
        drop(old);
        let _connection = UnixStream::connect(place.socket(Role::Image)).unwrap();
        new.set_nonblocking(true).unwrap();
        new.accept().unwrap();
        let mode = fs::metadata(place.socket(Role::Image)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, FILE_MODE);
        place.remove().unwrap();
        place.remove().unwrap();
        assert!(!place.directory().exists());
    }

    #[test]
    fn a_path_that_is_too_long_for_a_socket_is_said_to_be() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::new(directory.path().join("x".repeat(100)));
        place.create().unwrap();
        let error = place.listen(Role::Writable).unwrap_err();
        assert!(matches!(&error, Error::Listen { .. }) && error.to_string().contains("107"), "{error}");
    }
}
