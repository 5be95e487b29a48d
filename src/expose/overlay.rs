//! The directories of a snapshot that overlay writes to.

use std::fs::{self, DirBuilder, File, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use rustix::fs::{XattrFlags, fsetxattr};
use rustix::io::Errno;

use crate::layer::RootAttributes;
use crate::store::Error;

/// The mode that the kernel and containerd's own snapshotters give a work directory.
const WORK_MODE: u32 = 0o711;

/// How a file system says that it cannot hold an attribute, or does not take it from us: it has no
/// such attributes, no room for one of this size, or another idea of what it may say.
const REFUSALS: [Errno; 6] =
    [Errno::OPNOTSUPP, Errno::NOSPC, Errno::TOOBIG, Errno::RANGE, Errno::PERM, Errno::INVAL];

/// Who owns a directory, as identifiers on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Owner {
    /// The host's root.
    pub const ROOT: Self = Self { uid: 0, gid: 0 };
}

/// Creates an upper directory, whose attributes overlay shows as those of `/`.
///
/// An extended attribute that the file system refuses is left out, with a warning in the log: an
/// image that can be pulled can also be run.
///
/// # Errors
/// If `path` exists, cannot be written, or cannot be given to this owner.
pub fn create_upper(path: &Path, root: &RootAttributes) -> Result<(), Error> {
    create(path, 0o700)?;
    let directory = File::open(path).map_err(Error::io("open", path))?;
    give_to(&directory, path, Owner { uid: root.uid, gid: root.gid })?;
    for (name, value) in &root.xattrs {
        set_xattr(&directory, path, name, value)?;
    }
    // Last, because a change of owner clears setuid and setgid.
    let mode = Permissions::from_mode(u32::from(root.mode) & 0o7777);
    directory.set_permissions(mode).map_err(Error::io("change the mode of", path))
}

/// Creates a work directory.
///
/// # Errors
/// If `path` exists, cannot be written, or cannot be given to this owner.
pub fn create_work(path: &Path, owner: Owner) -> Result<(), Error> {
    create(path, WORK_MODE)?;
    give_to(&File::open(path).map_err(Error::io("open", path))?, path, owner)
}

/// Changes an owner only if it is another one, which a daemon without privileges could not.
fn give_to(directory: &File, path: &Path, owner: Owner) -> Result<(), Error> {
    let made = directory.metadata().map_err(Error::io("look at", path))?;
    if (made.uid(), made.gid()) == (owner.uid, owner.gid) {
        return Ok(());
    }
    fchown(directory, Some(owner.uid), Some(owner.gid)).map_err(Error::io("change the owner of", path))
}

/// Creates a directory with exactly this mode, whatever the umask.
fn create(path: &Path, mode: u32) -> Result<(), Error> {
    DirBuilder::new().mode(0o700).create(path).map_err(Error::io("create", path))?;
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(Error::io("change the mode of", path))
}

fn set_xattr(directory: &File, path: &Path, name: &[u8], value: &[u8]) -> Result<(), Error> {
    match fsetxattr(directory, name, value, XattrFlags::empty()) {
        Err(errno) if REFUSALS.contains(&errno) => {
            tracing::warn!(
                path = %path.display(), name = %name.escape_ascii(), bytes = value.len(), error = %errno,
                "an attribute of / is left out: the host's file system refuses it"
            );
            Ok(())
        }
        result => result.map_err(Error::io("set an extended attribute of", path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_that_no_file_system_holds_is_left_out_and_the_others_stay() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("upper");
        let xattrs = [
            (b"nothing.known".to_vec(), b"x".to_vec()),
            (b"security.capability".to_vec(), b"no capability".to_vec()),
            (b"user.huge".to_vec(), vec![1; 70_000]),
            (b"user.kept".to_vec(), b"value".to_vec()),
            ([b"user.".as_slice(), &[b'n'; 300]].concat(), b"x".to_vec()),
        ];
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let root = RootAttributes { mode: 0o1770, uid, gid, xattrs: xattrs.into() };
        create_upper(&path, &root).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o1770);
        let mut value = [0; 16];
        let length = rustix::fs::getxattr(&path, "user.kept", &mut value).unwrap();
        assert_eq!(&value[..length], b"value");
    }
}
