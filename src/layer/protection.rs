//! What keeps the file of a layer from being changed once it is made.
//!
//! * **fs-verity**: the file system checks what is read, and the file's digest, which is recorded, tells it
//!   from any other that is put in its place.
//! * **The immutable attribute**: nobody changes, renames or deletes the file by mistake, root included.
//!   The trash takes the attribute away again, wherever the file is by then (`store::tree`).

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Once;

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use crate::image::digest::Digest;
use crate::store::Error;
use crate::store::unique::Unique;
use crate::sys::fs_verity;

/// What an operator wants done to finished layer files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Protection {
    /// Whether they are sealed with fs-verity, and measured before they are handed out.
    pub fsverity: bool,
    /// Whether they get the immutable attribute, where the file system has it.
    pub immutable: bool,
}

/// Whether the file system that holds `directory` can seal files with fs-verity. Tries it with a file there.
///
/// # Errors
/// If the file cannot be made.
pub fn has_fsverity(directory: &Path) -> Result<bool, Error> {
    let unique = Unique::new().map_err(Error::io("name a file in", directory))?;
    let path = directory.join(unique.to_string());
    let tried = fs::write(&path, [1; 4096]).and_then(|()| fs_verity::enable(&File::open(&path)?));
    // What is left here is swept by the next start.
    let _ = fs::remove_file(&path);
    match tried {
        Ok(()) => Ok(true),
        Err(error) if fs_verity::is_unsupported(&error) => Ok(false),
        Err(error) => Err(Error::io("seal with fs-verity", &path)(error)),
    }
}

/// Seals the file with fs-verity, makes that durable, and returns the digest by which it is known from then on.
pub(super) fn seal(path: &Path) -> Result<Digest, Error> {
    let failed = || Error::io("seal with fs-verity", path);
    let file = File::open(path).map_err(failed())?;
    fs_verity::enable(&file).and_then(|()| file.sync_all()).map_err(failed())?;
    let digest = fs_verity::measure(&file).map_err(failed())?;
    let digest = digest.ok_or_else(|| failed()(io::Error::other("it is sealed and has no digest")))?;
    Ok(Digest::from_bytes(digest))
}

/// The digest by which fs-verity knows the file; None if it is not sealed.
pub(super) fn measure(path: &Path) -> Result<Option<Digest>, Error> {
    let measured = File::open(path).and_then(|file| fs_verity::measure(&file));
    Ok(measured.map_err(Error::io("measure", path))?.map(Digest::from_bytes))
}

/// Gives the file the immutable attribute, unless it has other names, which are an operator's.
///
/// Where that is not possible, the log says so once: the attribute guards against mistakes, and a layer
/// without it is as good.
pub(super) fn make_immutable(path: &Path) {
    static REPORTED: Once = Once::new();
    let made = File::open(path).and_then(|file| {
        if file.metadata()?.nlink() == 1 {
            ioctl_setflags(&file, ioctl_getflags(&file)? | IFlags::IMMUTABLE)?;
        }
        Ok(())
    });
    if let Err(error) = made {
        REPORTED.call_once(|| {
            tracing::warn!(
                %error, file = %path.display(),
                "layer files do not get the immutable attribute: the file system or CAP_LINUX_IMMUTABLE is missing; \
                 set_immutable = false ends this message"
            );
        });
    }
}
