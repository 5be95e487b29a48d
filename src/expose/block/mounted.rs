//! Reads what was written to a writable block, by a mount that nobody else sees.
//!
//! The mount has no place in the tree of directories, so that it goes with its descriptor, however the
//! process ends. What a guest wrote there is foreign input: nothing on it can be run or opened as a
//! device, and what its superblock says about errors (it could ask for a panic) does not count.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};

use super::{Error, ext4};
use crate::store;
use crate::sys::locks::{self, Exclusive};
use crate::sys::loop_device::{Access, LoopDevice};

/// Directory in a block that overlay writes to.
const UPPER: &str = "upper";

/// Who has a writable block, and so how it may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Nobody, or a mount on this host. A journal that was not ended properly is replayed.
    Host,
    /// A virtual machine that promised not to write meanwhile. Nothing in the block may change.
    QuiescedGuest,
}

/// A writable block that is mounted read-only for us.
#[derive(Debug)]
pub struct MountedBlock {
    path: PathBuf,
    // Dropped in this order.
    mount: OwnedFd,
    _device: LoopDevice,
}

/// Whether a virtual machine has the block `path`: whether somebody holds a lock on it. Two or three system
/// calls. A monitor that locks nothing is not noticed.
///
/// # Errors
/// If it cannot be opened.
pub fn is_held(path: &Path) -> Result<bool, Error> {
    let file = File::options().read(true).write(true).open(path);
    let held = file.and_then(|file| locks::is_held(&file));
    Ok(held.map_err(store::Error::io("look for locks on", path))?)
}

/// Reserves the block `path`: as long as the answer lives, no virtual machine gets it whose monitor locks what it opens.
/// None if one has it, as [`is_held`] would tell.
///
/// # Errors
/// If it cannot be opened.
pub fn reserve(path: &Path) -> Result<Option<Exclusive>, Error> {
    let file = File::options().read(true).write(true).open(path);
    let file = file.map_err(store::Error::io("open for writing", path))?;
    Ok(Exclusive::new(file).map_err(store::Error::io("lock", path))?)
}

impl MountedBlock {
    /// Mounts the block `path`.
    ///
    /// One that is mounted on this host is mounted once more from the same loop device, and so shows what
    /// was written there up to now, whether it has reached the file or not.
    ///
    /// # Errors
    /// [`Error::Mount`] if it holds no ext4 or is damaged, without rights, or without loop devices.
    pub fn open(path: &Path, holder: Holder) -> Result<Self, Error> {
        let file = File::open(path).map_err(store::Error::io("open", path))?;
        let in_use = match holder {
            Holder::Host => {
                LoopDevice::find(&file).map_err(store::Error::io("find a loop device of", path))?
            }
            Holder::QuiescedGuest => None,
        };
        let (device, mount) = match in_use {
            Some(device) => shared(device, path)?,
            None => alone(&file, path, holder)?,
        };
        Ok(Self { path: path.to_owned(), mount, _device: device })
    }

    /// Opens the directory that was written to.
    ///
    /// # Errors
    /// If it is not there.
    pub fn upper(&self) -> Result<OwnedFd, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let upper = openat(&self.mount, UPPER, flags, Mode::empty());
        Ok(upper.map_err(store::Error::io("open the upper directory in", &self.path))?)
    }
}

/// Mounts a device that somebody else has attached, and probably mounted.
fn shared(device: LoopDevice, path: &Path) -> Result<(LoopDevice, OwnedFd), Error> {
    // A file system has one state for all its mounts, read-only or not: ask for what it has.
    let mount = match mount(&device, &[]) {
        Err(Errno::BUSY | Errno::ROFS | Errno::ACCESS) => mount(&device, &["ro"]),
        mount => mount,
    };
    Ok((device, mount.map_err(mount_error(path))?))
}

/// Mounts a block that is not mounted anywhere.
fn alone(file: &File, path: &Path, holder: Holder) -> Result<(LoopDevice, OwnedFd), Error> {
    let replay = holder == Holder::Host
        && ext4::needs_replay(file).map_err(store::Error::io("read the superblock of", path))?;
    let (device, options): (_, &[&str]) = match (replay, holder) {
        (true, _) => {
            let file = File::options().read(true).write(true).open(path);
            let file = file.map_err(store::Error::io("open for writing", path))?;
            (LoopDevice::attach(&file, Access::ReadWrite), &[])
        }
        (false, Holder::Host) => (LoopDevice::attach(file, Access::ReadOnly), &["ro"]),
        (false, Holder::QuiescedGuest) => (LoopDevice::attach(file, Access::ReadOnly), &["ro", "norecovery"]),
    };
    let device = device.map_err(store::Error::io("make a loop device of", path))?;
    let mount = mount(&device, options).map_err(mount_error(path))?;
    Ok((device, mount))
}

fn mount(device: &LoopDevice, flags: &[&str]) -> Result<OwnedFd, Errno> {
    let context = fsopen("ext4", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", device.path())?;
    fsconfig_set_string(&context, "errors", "remount-ro")?;
    flags.iter().try_for_each(|flag| fsconfig_set_flag(&context, *flag))?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn mount_error(path: &Path) -> impl FnOnce(Errno) -> Error {
    move |errno| Error::Mount { path: path.to_owned(), source: errno.into() }
}
