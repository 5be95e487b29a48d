//! One mount of ours: a layer or a writable block, and how it ends.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nexuserofs_guest::dm;
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use super::{Subject, devices};
use crate::error::{Classify, Kind, io_kind};
use crate::expose::plan::{BLOCK_MOUNT_NAME, SHIFTED_NAME, UPPER_NAME, WORK_NAME};
use crate::store;
use crate::sys::loop_device::{Access, LoopDevice};

/// Why something cannot be mounted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] store::Error),
    /// The kernel refused a mount.
    #[error(
        "cannot mount {} on {}: {source}; the kernel's log has the reason, and the daemon must run as root",
        image.display(), point.display()
    )]
    Mount {
        /// What was to be mounted.
        image: PathBuf,
        /// On what.
        point: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The owners of a layer cannot be shifted.
    #[error(
        "cannot shift the owners of {} for a user namespace: {source}; that takes Linux 5.19 or newer with user \
         namespaces, and identifiers that it can map",
        layer.display()
    )]
    Shift {
        /// Where the layer is mounted.
        layer: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file cannot be made a block device.
    #[error("cannot attach {} to a loop device: {source}; the kernel needs its loop driver (CONFIG_BLK_DEV_LOOP)", image.display())]
    Loop {
        /// The file.
        image: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A layer cannot be mounted through dm-verity.
    #[error("cannot check the layer {} while it is read: {source}", image.display())]
    Verity {
        /// The layer's file.
        image: PathBuf,
        /// Why not.
        source: dm::Error,
    },
    /// A name belongs to something else. Only a damaged record can say otherwise.
    #[error("something else than {wanted} is mounted under {}: remove the container and make it anew", point.display())]
    NameTaken {
        /// The mount point.
        point: PathBuf,
        /// What a plan says is mounted there.
        wanted: Subject,
    },
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::File(error) => error.kind(),
            Self::Mount { source, .. } | Self::Shift { source, .. } | Self::Loop { source, .. } => {
                io_kind(source)
            }
            Self::Verity { source, .. } => match source {
                dm::Error::Missing { .. } | dm::Error::NoVerity => Kind::FailedPrecondition,
                dm::Error::Denied { .. } => Kind::PermissionDenied,
                _ => Kind::Internal,
            },
            Self::NameTaken { .. } => Kind::DataLoss,
        }
    }
}

/// Mounts layers, in the way that this kernel has for it.
#[derive(Debug, Default)]
pub(super) struct LayerMounter {
    /// Whether the kernel said that it mounts EROFS from block devices only (before Linux 6.12). It
    /// would say so in its log at every attempt.
    needs_device: AtomicBool,
}

impl LayerMounter {
    /// Mounts the EROFS file `image` read-only on the directory `point`, with the files that hold the data
    /// that it points to.
    pub(super) fn mount(&self, image: &Path, devices: &[PathBuf], point: &Path) -> Result<(), Error> {
        if !self.needs_device.load(Ordering::Relaxed) {
            let mounted = match devices {
                [] => mount(image, point, "erofs", MountFlags::RDONLY),
                _ => devices::mount_files(image, devices, point),
            };
            match mounted {
                Err(Error::Mount { source, .. }) if Errno::from_io_error(&source) == Some(Errno::NOTBLK) => {}
                result => return result,
            }
            self.needs_device.store(true, Ordering::Relaxed);
        }
        match devices {
            [] => mount_by_device(image, point, "erofs", Access::ReadOnly),
            _ => devices::mount_loops(image, devices, point),
        }
    }
}

/// Mounts the EROFS file `image` read-only on the directory `point`, which exists, with the files that hold the
/// data that it points to.
///
/// # Errors
/// If the kernel refuses, or there is no loop device where one is needed.
pub fn mount_image(image: &Path, devices: &[PathBuf], point: &Path) -> Result<(), Error> {
    LayerMounter::default().mount(image, devices, point)
}

/// Mounts the writable block `image` on the directory `point`, which is made if it is not there. If
/// something is mounted there, that is the block already.
///
/// # Errors
/// If the kernel refuses, or there is no loop device.
pub fn mount_block(image: &Path, point: &Path) -> Result<(), Error> {
    make_point(point)?;
    if is_mount_point(point)? { Ok(()) } else { mount_by_device(image, point, "ext4", Access::ReadWrite) }
}

/// Makes a directory to mount something on.
pub(super) fn make_point(point: &Path) -> Result<(), store::Error> {
    match DirBuilder::new().mode(0o700).create(point) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result.map_err(store::Error::io("create", point)),
    }
}

/// Makes a file a block device, which is detached when nobody uses it any more.
pub(super) fn attach(image: &Path, access: Access) -> Result<LoopDevice, Error> {
    let writable = access == Access::ReadWrite;
    let file =
        File::options().read(true).write(writable).open(image).map_err(store::Error::io("open", image))?;
    LoopDevice::attach(&file, access).map_err(|source| Error::Loop { image: image.to_owned(), source })
}

fn mount_by_device(image: &Path, point: &Path, fstype: &str, access: Access) -> Result<(), Error> {
    let device = attach(image, access)?;
    let flags = match access {
        Access::ReadOnly => MountFlags::RDONLY,
        Access::ReadWrite => MountFlags::empty(),
    };
    mount(device.path(), point, fstype, flags)
}

/// Mounts a file or a device.
pub(super) fn mount(source: &Path, point: &Path, fstype: &str, flags: MountFlags) -> Result<(), Error> {
    rustix::mount::mount(source, point, fstype, flags, None).map_err(refused(source, point))
}

/// Adapter for `map_err`: the kernel's refusal to mount `image` on `point`.
pub(super) fn refused(image: &Path, point: &Path) -> impl FnOnce(Errno) -> Error {
    move |errno| Error::Mount { image: image.to_owned(), point: point.to_owned(), source: errno.into() }
}

/// Whether something is mounted on `path`. Nothing at `path` is no mount point.
///
/// # Errors
/// If it cannot be looked at.
pub fn is_mount_point(path: &Path) -> Result<bool, store::Error> {
    match statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT, StatxFlags::empty()) {
        Ok(found) => Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
        Err(errno) => Err(store::Error::io("look at", path)(errno)),
    }
}

/// Unmounts what is mounted on `path`, if anything is. What somebody uses stays mounted.
///
/// # Errors
/// `EBUSY` if it is in use, and what else the kernel says.
pub fn unmount(path: &Path) -> Result<(), store::Error> {
    while is_mount_point(path)? {
        rustix::mount::unmount(path, UnmountFlags::NOFOLLOW).map_err(store::Error::io("unmount", path))?;
    }
    Ok(())
}

/// Unmounts what we may have mounted on or in a directory that is about to be deleted: a layer, or
/// what a snapshot has mounted for itself.
///
/// # Errors
/// As [`unmount`]: then the directory must stay.
pub fn detach(path: &Path) -> Result<(), store::Error> {
    let is_named = |wanted: &str| path.file_name().is_some_and(|name| name == wanted);
    if is_named(UPPER_NAME) || is_named(WORK_NAME) {
        // A container made what is in there, and may have called it as we do, or linked to elsewhere.
        return Ok(());
    }
    unmount(&path.join(BLOCK_MOUNT_NAME))?;
    let shifted = if is_named(SHIFTED_NAME) { path.to_owned() } else { path.join(SHIFTED_NAME) };
    if fs::symlink_metadata(&shifted).is_ok_and(|found| found.is_dir()) {
        for entry in fs::read_dir(&shifted).map_err(store::Error::io("read", &shifted))? {
            unmount(&entry.map_err(store::Error::io("read", &shifted))?.path())?;
        }
    }
    unmount(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::skipped::skip;

    #[test]
    fn what_a_container_made_leads_to_no_unmount() {
        let test = "what_a_container_made_leads_to_no_unmount";
        let root = tempfile::tempdir().unwrap();
        let host = root.path().join("host");
        let point = host.join("point");
        fs::create_dir_all(&point).unwrap();
        if let Err(error) = rustix::mount::mount_bind(root.path(), &point) {
            skip(test, format!("a bind mount needs CAP_SYS_ADMIN: {error}"));
            return;
        }
        for name in [UPPER_NAME, WORK_NAME, "other"] {
            let directory = root.path().join(name);
            fs::create_dir(&directory).unwrap();
            symlink(&host, directory.join(SHIFTED_NAME)).unwrap();
            symlink(&point, directory.join(BLOCK_MOUNT_NAME)).unwrap();
            detach(&directory).unwrap();
        }
        let kept = is_mount_point(&point).unwrap();
        crate::unmounting::unmount(&point);
        assert!(kept);
    }
}
