//! Layers on a directory, read-only, for somebody to look at.
//!
//! However many layers there are, one mount is left: overlayfs keeps clones of its layers' mounts, so those that
//! it was made of are taken away at once. There is nothing to remember, and whatever ends that mount ends all.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsmount, fsopen, move_mount, open_tree,
};

use super::host::mountinfo;
use super::host::mounting::{self, is_mount_point};
use crate::store;

/// What the kernel shows as the source of a view of several layers.
const SOURCE: &str = "nexuserofs";
/// Where overlayfs is mounted first, among its layers.
const VIEW: &str = "view";
/// Longest options of mount(2), in bytes: a page without its NUL.
const OPTIONS_MAX: usize = 4095;

/// Why layers cannot be shown, or no longer be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A layer cannot be mounted.
    #[error(transparent)]
    Layer(#[from] mounting::Error),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] store::Error),
    /// There is something that a view would hide.
    #[error("something is mounted on {} already: name another directory, or unmount it", .0.display())]
    Taken(PathBuf),
    /// There is something that was not mounted by [`mount`].
    #[error("what is mounted on {} is {fstype}, and no view of layers: use umount for it", point.display())]
    Foreign {
        /// Where.
        point: PathBuf,
        /// Type of the file system.
        fstype: String,
    },
    /// More layers than the kernel takes in one mount.
    #[error("{0} layers are more than one overlay takes: mount fewer, or those of the chain merged")]
    TooMany(usize),
    /// The kernel refused the overlay.
    #[error("cannot {operation} on {}: {source}; the kernel's log has the reason", point.display())]
    Overlay {
        /// What was tried.
        operation: &'static str,
        /// Where.
        point: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// An EROFS image to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its file.
    pub file: PathBuf,
    /// The files that hold the data of a merged image, by number; none for a layer.
    pub devices: Vec<PathBuf>,
}

/// Mounts `images`, the newest first, on the directory `point`.
///
/// # Errors
/// If something is mounted there, or the kernel refuses. Then nothing is left there.
pub fn mount(images: &[Image], point: &Path) -> Result<(), Error> {
    if is_mount_point(point)? {
        return Err(Error::Taken(point.to_owned()));
    }
    match images {
        [image] => Ok(mounting::mount_image(&image.file, &image.devices, point)?),
        images => mount_stack(images, point),
    }
}

/// Takes away what [`mount`] mounted on `point`, and tells whether there was anything.
///
/// # Errors
/// If something else is mounted there, or somebody uses it.
pub fn unmount(point: &Path) -> Result<bool, Error> {
    if !is_mount_point(point)? {
        return Ok(false);
    }
    let real = fs::canonicalize(point).map_err(store::Error::io("resolve", point))?;
    // Of several mounts on one point the last hides the others.
    let shown = mountinfo::read()?.into_iter().rfind(|entry| entry.point == real);
    match shown {
        Some(entry) if !is_view(&entry) => {
            Err(Error::Foreign { point: point.to_owned(), fstype: entry.fstype })
        }
        _ => {
            let done = rustix::mount::unmount(point, UnmountFlags::NOFOLLOW);
            done.map_err(store::Error::io("unmount", point))?;
            Ok(true)
        }
    }
}

fn is_view(entry: &mountinfo::Entry) -> bool {
    entry.fstype == "erofs" || entry.fstype == "overlay" && entry.source == Path::new(SOURCE)
}

/// Mounts several layers as one.
fn mount_stack(images: &[Image], point: &Path) -> Result<(), Error> {
    let workshop = Workshop::open(point)?;
    for (index, image) in images.iter().enumerate() {
        let place = workshop.make(&index.to_string())?;
        mounting::mount_image(&image.file, &image.devices, &place)?;
    }
    let view = workshop.overlay(images.len())?;
    drop(workshop);
    let moved = move_mount(&view, "", CWD, point, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH);
    moved.map_err(failed("move the view", point))
}

/// A file system in memory on the point, in which layers are mounted and joined. It goes with all that is
/// mounted in it when this is dropped.
struct Workshop<'p> {
    point: &'p Path,
    top: OwnedFd,
}

impl<'p> Workshop<'p> {
    fn open(point: &'p Path) -> Result<Self, Error> {
        let failed = failed("mount a tmpfs", point);
        let mount = || {
            let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
            fsconfig_create(&context)?;
            let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
            let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
            move_mount(&mount, "", CWD, point, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        };
        mount().map_err(failed)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(point, flags, Mode::empty()) {
            Ok(top) => Ok(Self { point, top }),
            Err(errno) => {
                // The reason to stop says more than one about the clean-up would.
                let _ = rustix::mount::unmount(point, UnmountFlags::DETACH);
                Err(store::Error::io("open", point)(errno).into())
            }
        }
    }

    /// Makes a directory.
    fn make(&self, name: &str) -> Result<PathBuf, Error> {
        let place = self.point.join(name);
        fs::create_dir(&place).map_err(store::Error::io("create", &place))?;
        Ok(place)
    }

    /// Joins the layers that are mounted here, and takes the result out.
    fn overlay(&self, layers: usize) -> Result<OwnedFd, Error> {
        let place = self.make(VIEW)?;
        // By a descriptor: the point's own name may be long, or hold what overlay's options end at.
        let top = format!("/proc/self/fd/{}", self.top.as_fd().as_raw_fd());
        let lower: Vec<String> = (0..layers).map(|layer| format!("{top}/{layer}")).collect();
        let options = format!("lowerdir={}", lower.join(":"));
        if options.len() > OPTIONS_MAX {
            return Err(Error::TooMany(layers));
        }
        let options = std::ffi::CString::new(options).unwrap_or_default();
        rustix::mount::mount(SOURCE, &place, "overlay", MountFlags::RDONLY, options.as_c_str())
            .map_err(failed("mount an overlay of the layers", self.point))?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        open_tree(CWD, &place, flags).map_err(failed("take the view out", self.point))
    }
}

impl Drop for Workshop<'_> {
    fn drop(&mut self) {
        // What cannot be detached now is nothing that could be detached later.
        let _ = rustix::mount::unmount(self.point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    }
}

fn failed(operation: &'static str, point: &Path) -> impl Fn(Errno) -> Error {
    move |errno| Error::Overlay { operation, point: point.to_owned(), source: errno.into() }
}
