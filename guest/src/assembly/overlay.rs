//! Layers joined by overlayfs.

use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, mount, move_mount,
};

/// What overlayfs makes of attributes that it finds, whatever the kernel's defaults are and whatever the host
/// would like. Linux has all of them since 4.19.
const FIXED: [(&str, &str); 3] = [("redirect_dir", "nofollow"), ("metacopy", "off"), ("index", "off")];

/// What overlayfs calls the mount in `/proc/mounts`.
const SOURCE: &str = "nexuserofs";

/// Joins the directories in `lowers`, oldest first, and mounts them on `target`; writes go to `writable`/upper,
/// with `writable`/work beside it. Without it the mount is read-only.
///
/// The names of all layers have to fit into a page in kernels before 6.8: short names are better.
///
/// # Errors
/// What the kernel says.
pub fn join(lowers: &[PathBuf], writable: Option<&Path>, target: &Path) -> io::Result<()> {
    match join_one_by_one(lowers, writable, target) {
        // No such call before 5.2, and none for single layers before 6.8.
        Err(Errno::NOSYS | Errno::INVAL) => join_at_once(lowers, writable, target),
        joined => Ok(joined?),
    }
}

/// By the calls of the mount API that take one layer each, so any number of them.
fn join_one_by_one(lowers: &[PathBuf], writable: Option<&Path>, target: &Path) -> Result<(), Errno> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let context = context.as_fd();
    fsconfig_set_string(context, "source", SOURCE)?;
    for lower in lowers.iter().rev() {
        fsconfig_set_string(context, "lowerdir+", lower.as_path())?;
    }
    if let Some(writable) = writable {
        fsconfig_set_string(context, "upperdir", writable.join("upper"))?;
        fsconfig_set_string(context, "workdir", writable.join("work"))?;
    }
    for (name, value) in FIXED {
        fsconfig_set_string(context, name, value)?;
    }
    fsconfig_create(context)?;
    let attributes =
        if writable.is_some() { MountAttrFlags::empty() } else { MountAttrFlags::MOUNT_ATTR_RDONLY };
    let joined = fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    move_mount(joined.as_fd(), "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// [`join`] by the call of old, with all options in one text, which is what it does in kernels before 6.8.
///
/// # Errors
/// What the kernel says. It takes no text that is longer than a page.
pub fn join_at_once(lowers: &[PathBuf], writable: Option<&Path>, target: &Path) -> io::Result<()> {
    let lowers: Vec<&str> =
        lowers.iter().rev().map(|lower| lower.to_str()).collect::<Option<_>>().ok_or(Errno::INVAL)?;
    let mut options = vec![format!("lowerdir={}", lowers.join(":"))];
    if let Some(writable) = writable.map(|writable| writable.to_str().ok_or(Errno::INVAL)).transpose()? {
        options.push(format!("upperdir={writable}/upper,workdir={writable}/work"));
    }
    options.extend(FIXED.map(|(name, value)| format!("{name}={value}")));
    let options = std::ffi::CString::new(options.join(",")).map_err(|_| Errno::INVAL)?;
    let flags = if writable.is_some() { MountFlags::empty() } else { MountFlags::RDONLY };
    Ok(mount(SOURCE, target, "overlay", flags, options.as_c_str())?)
}
