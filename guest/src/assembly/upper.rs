//! What takes the writes.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{Error, Workplace, mounts};
use crate::dm::{DeviceMapper, Key};
use crate::ext4;
use crate::plan::Upper;
use crate::verity::DeviceNumber;

/// Where the writes go, ready for overlayfs. None if there are to be none.
pub(super) fn make(
    mapper: &DeviceMapper,
    upper: &Upper,
    workplace: &Workplace,
) -> Result<Option<PathBuf>, Error> {
    let path = workplace.upper();
    let (what, mounted) = match upper {
        Upper::None => return Ok(None),
        Upper::Tmpfs { size } => ("memory".to_owned(), mounts::tmpfs(*size, &path)),
        Upper::Device { path: device } => (device.clone(), mounts::ext4(Path::new(device), &path)),
        Upper::Encrypted { device, number, bytes } => {
            let encrypted = encrypted(mapper, workplace, *number, *bytes)?;
            (format!("{device}, encrypted"), mounts::own_ext4(&encrypted, &path))
        }
    };
    mounted.map_err(|source| Error::Mount { what, path: path.clone(), source })?;
    for (name, mode) in [("upper", 0o755), ("work", 0o700)] {
        let path = path.join(name);
        match fs::create_dir(&path) {
            // What an earlier run of a guest that trusts its host wrote.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => is_directory(&path),
            made => made.and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode))),
        }
        .map_err(Error::file("make", path))?;
    }
    Ok(Some(path))
}

/// Refuses anything but a directory, a link to one above all: it may lead out of the host's file system into the guest's own,
/// which the image's programs would read and write then.
fn is_directory(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path)?.is_dir() {
        true => Ok(()),
        false => Err(io::ErrorKind::NotADirectory.into()),
    }
}

/// A device over the host's that encrypts with a new key, and a new file system on it. The key is here until this
/// returns, and in the kernel until the device is removed.
fn encrypted(
    mapper: &DeviceMapper,
    workplace: &Workplace,
    number: DeviceNumber,
    bytes: u64,
) -> Result<PathBuf, Error> {
    let key = Key::random()?;
    let device = mapper.create_crypt(&workplace.upper_device()?, &key, number, bytes)?.path();
    let made = OpenOptions::new().write(true).open(&device).and_then(|node| {
        ext4::write(&node, bytes, ext4::Identity::random()?)?;
        node.sync_all()
    });
    made.map_err(Error::file("make a file system on", &device))?;
    Ok(device)
}
