//! What the kernel and a file system can do of what mounts and devices need, found out by trying. Nothing is
//! left behind: what is mounted is attached nowhere, and files have no name.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};

use super::host::mountinfo;
use crate::image::erofs::Writer;
use crate::image::tree::{Directory, Inode, Metadata, Node, Tree};
use crate::store::Error;
use crate::sys::project_quota;

/// How the kernel mounts an EROFS image that lies on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErofsMounts {
    /// From its file (Linux 6.12 with `EROFS_FS_BACKED_BY_FILE`).
    Files,
    /// From a loop device only.
    LoopDevices,
    /// Not at all: it has no EROFS.
    None,
}

/// How images in `directory` can be mounted. A small one is.
///
/// # Errors
/// If no file can be made there, or this process may mount nothing.
pub fn erofs_mounts(directory: &Path) -> Result<ErofsMounts, Error> {
    let file = image(directory).map_err(Error::io("write an image to", directory))?;
    match mount_detached(&format!("/proc/self/fd/{}", file.as_raw_fd())) {
        Ok(()) => Ok(ErofsMounts::Files),
        Err(Errno::NOTBLK) => Ok(ErofsMounts::LoopDevices),
        Err(Errno::NODEV) => Ok(ErofsMounts::None),
        Err(errno) => Err(Error::io("mount an EROFS image from", directory)(errno)),
    }
}

/// Whether the file system that holds `directory` enforces project quotas.
///
/// # Errors
/// If the directory cannot be opened.
pub fn has_project_quotas(directory: &Path) -> Result<bool, Error> {
    let directory = File::open(directory).map_err(Error::io("open", directory))?;
    Ok(project_quota::is_enforced(&directory))
}

/// Where something is mounted below `directory`.
///
/// # Errors
/// If `/proc` does not say.
pub fn mount_points_below(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let directory = fs::canonicalize(directory).map_err(Error::io("resolve", directory))?;
    let points = mountinfo::read()?.into_iter().map(|entry| entry.point);
    Ok(points.filter(|point| *point != directory && point.starts_with(&directory)).collect())
}

/// A file without a name in `directory` that holds the image of an empty directory.
fn image(directory: &Path) -> io::Result<File> {
    let root = Inode {
        metadata: Metadata { mode: 0o755, ..Metadata::default() },
        node: Node::Directory(Directory::default()),
    };
    let mut bytes = Vec::new();
    Writer::new(&mut bytes).finish(&Tree { inodes: vec![root] }, [0; 16]).map_err(io::Error::other)?;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(&bytes)?;
    Ok(file)
}

/// Mounts an EROFS image, and gives the mount up again.
fn mount_detached(source: &str) -> Result<(), Errno> {
    let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", source)?;
    fsconfig_set_flag(&context, "ro")?;
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::skipped::skip;

    #[test]
    fn a_mount_that_is_tried_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let before = mountinfo::read().unwrap();
        match erofs_mounts(directory.path()) {
            Err(error) => skip("a_mount_that_is_tried_leaves_nothing", format!("cannot mount: {error}")),
            Ok(found) => {
                let known = fs::read_to_string("/proc/filesystems").unwrap();
                let has_erofs = known.lines().any(|line| line.trim_start_matches("nodev").trim() == "erofs");
                assert_eq!(found != ErofsMounts::None, has_erofs);
                assert_eq!(mountinfo::read().unwrap(), before);
                assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
            }
        }
    }

    #[test]
    fn mounts_below_a_directory_are_told_from_others() {
        let points = mount_points_below(Path::new("/")).unwrap();
        assert!(points.iter().any(|point| point == Path::new("/proc")), "{points:?}");
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(mount_points_below(directory.path()).unwrap(), Vec::<PathBuf>::new());
        mount_points_below(&directory.path().join("missing")).unwrap_err();
    }
}
