//! An EROFS image mounted together with the devices that its data is on.
//!
//! mount(2) takes a page of options, in which a hundred paths do not fit. The newer calls take one option at a
//! time, of up to 255 bytes.

use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};

use super::mounting::{self, Error, refused};
use crate::sys::loop_device::{Access, LoopDevice};

/// Mounts `image` from its file, and its devices from theirs.
pub(super) fn mount_files(image: &Path, devices: &[PathBuf], point: &Path) -> Result<(), Error> {
    configure(image, devices.iter().map(PathBuf::as_path), point).map_err(refused(image, point))
}

/// Mounts `image` and its devices from loop devices, which go with the mount.
pub(super) fn mount_loops(image: &Path, devices: &[PathBuf], point: &Path) -> Result<(), Error> {
    let attach = |file: &Path| mounting::attach(file, Access::ReadOnly);
    let attached = attach(image)?;
    let loops: Vec<LoopDevice> = devices.iter().map(|device| attach(device)).collect::<Result<_, _>>()?;
    configure(attached.path(), loops.iter().map(LoopDevice::path), point).map_err(refused(image, point))
}

fn configure<'d>(image: &Path, devices: impl Iterator<Item = &'d Path>, point: &Path) -> Result<(), Errno> {
    let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", image)?;
    fsconfig_set_flag(&context, "ro")?;
    for device in devices {
        fsconfig_set_string(&context, "device", device)?;
    }
    fsconfig_create(&context)?;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)?;
    move_mount(&mount, "", CWD, point, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}
