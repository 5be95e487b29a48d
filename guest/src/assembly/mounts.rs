//! Mounts of one device, or of memory.

use std::ffi::{CStr, CString};
use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};

use super::Error;

/// Options of [`super::upper`]'s own file systems. Unused inodes hold noise that nobody reads: to overwrite all of it
/// in the background, as ext4 does otherwise, is work for nothing.
const OWN_EXT4: &CStr = c"noinit_itable";

/// Mounts an EROFS image that nobody writes.
pub(super) fn erofs(device: &Path, target: &Path) -> io::Result<()> {
    Ok(mount(device, target, "erofs", MountFlags::RDONLY, None::<&CStr>)?)
}

/// Mounts an ext4 file system of the host's. Devices are not opened on this mount; on the overlay above it they are,
/// where the flags of the overlay's own mount count. Nobody follows links on it, which may lead anywhere, also if the host
/// puts them there later (Linux 5.10); within the overlay they are followed as everywhere.
pub(super) fn ext4(device: &Path, target: &Path) -> io::Result<()> {
    let flags = MountFlags::NODEV | MountFlags::NOATIME | MountFlags::NOSYMFOLLOW;
    Ok(mount(device, target, "ext4", flags, None::<&CStr>)?)
}

/// Mounts an ext4 file system that was just made here.
pub(super) fn own_ext4(device: &Path, target: &Path) -> io::Result<()> {
    let flags = MountFlags::NODEV | MountFlags::NOATIME;
    Ok(mount(device, target, "ext4", flags, OWN_EXT4)?)
}

/// Mounts memory: as many bytes as `size`, or half of what there is.
pub(super) fn tmpfs(size: Option<u64>, target: &Path) -> io::Result<()> {
    let size = size.map(|size| format!(",size={size}")).unwrap_or_default();
    let options = CString::new(format!("mode=0700{size}")).map_err(|_| Errno::INVAL)?;
    Ok(mount("tmpfs", target, "tmpfs", MountFlags::NODEV, options.as_c_str())?)
}

/// What is mounted below `target` later stays below it, and nothing of others comes there.
pub(super) fn keep_to_itself(target: &Path) -> io::Result<()> {
    Ok(mount_change(target, MountPropagationFlags::PRIVATE)?)
}

/// Takes a mount away, if there is one.
pub(super) fn take_away(target: &Path, detach: bool) -> Result<(), Error> {
    let flags = if detach { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    match unmount(target, flags | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(Errno::BUSY) => Err(Error::InUse { path: target.to_owned() }),
        Err(error) => Err(Error::file("unmount", target)(error.into())),
    }
}
