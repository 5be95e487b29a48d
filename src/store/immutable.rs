//! The immutable attribute in the way of a removal.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, IFlags, Mode, OFlags, ioctl_getflags, ioctl_setflags};
use rustix::io::Errno;
use rustix::path::Arg;

/// Takes the attributes that forbid its removal from the regular file `name` in `parent`. False if it has
/// none.
pub(super) fn release(parent: &OwnedFd, name: impl Arg + Copy) -> Result<bool, Errno> {
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    // To open a device can do something to it.
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(false);
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    let attributes = ioctl_getflags(&file)?;
    let forbidding = IFlags::IMMUTABLE | IFlags::APPEND;
    if !attributes.intersects(forbidding) {
        return Ok(false);
    }
    ioctl_setflags(&file, attributes - forbidding).map(|()| true)
}
