//! Layers, their overlay and their merged image, mounted.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};
use tempfile::TempDir;

use crate::skipped;
use crate::stack::merge;

/// Files of layers, oldest first, and of their merged image.
pub(crate) struct Files {
    directory: TempDir,
    pub(crate) layers: Vec<PathBuf>,
    pub(crate) merged: PathBuf,
}

impl Files {
    pub(crate) fn of(stack: &[Vec<u8>]) -> Self {
        let directory = TempDir::new().unwrap();
        let write = |(number, bytes): (usize, &Vec<u8>)| {
            let path = directory.path().join(format!("{number}.erofs"));
            fs::write(&path, bytes).unwrap();
            path
        };
        let layers = stack.iter().enumerate().map(write).collect();
        let merged = directory.path().join("fsmeta.erofs");
        fs::write(&merged, merge(stack).unwrap()).unwrap();
        Self { directory, layers, merged }
    }

    /// The merged image and behind it the layers, in one file.
    pub(crate) fn flattened(&self) -> PathBuf {
        let path = self.directory.path().join("flattened");
        let files = [&self.merged].into_iter().chain(&self.layers);
        fs::write(&path, files.map(|file| fs::read(file).unwrap()).collect::<Vec<_>>().concat()).unwrap();
        path
    }
}

/// Something mounted, unmounted when dropped.
pub(crate) struct Mount {
    point: TempDir,
}

impl Mount {
    /// An EROFS image, with the devices that its data is on.
    pub(crate) fn erofs(image: &Path, devices: &[PathBuf]) -> Result<Self, Errno> {
        let options = devices.iter().map(|device| ("device", device.as_path()));
        Self::new("erofs", image, options)
    }

    /// An overlay of directories, the topmost first.
    pub(crate) fn overlay(lower: &[&Path]) -> Result<Self, Errno> {
        Self::new("overlay", Path::new("overlay"), lower.iter().map(|layer| ("lowerdir+", *layer)))
    }

    fn new<'o>(
        fstype: &str,
        source: &Path,
        options: impl IntoIterator<Item = (&'o str, &'o Path)>,
    ) -> Result<Self, Errno> {
        let point = TempDir::new().unwrap();
        let context = fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&context, "source", source)?;
        fsconfig_set_flag(&context, "ro")?;
        for (name, value) in options {
            fsconfig_set_string(&context, name, value)?;
        }
        fsconfig_create(&context)?;
        let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
        move_mount(&mount, "", CWD, point.path(), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        Ok(Self { point })
    }

    pub(crate) fn path(&self) -> &Path {
        self.point.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        unmount(self.path(), UnmountFlags::DETACH).unwrap();
    }
}

/// The overlay of layers that are mounted one by one, and these mounts.
pub(crate) struct Overlay {
    pub(crate) mount: Mount,
    _layers: Vec<Mount>,
}

impl Overlay {
    pub(crate) fn of(files: &Files) -> Result<Self, Errno> {
        // Overlayfs wants two: a layer on itself is the layer.
        let again = files.layers.iter().filter(|_| files.layers.len() == 1);
        let all = files.layers.iter().chain(again);
        let layers: Vec<_> = all.map(|layer| Mount::erofs(layer, &[])).collect::<Result<_, _>>()?;
        let lower: Vec<_> = layers.iter().rev().map(Mount::path).collect();
        Ok(Self { mount: Mount::overlay(&lower)?, _layers: layers })
    }
}

/// Whether this machine mounts what `test` needs. If not, it has said why.
pub(crate) fn can_mount(test: &str) -> bool {
    let files = Files::of(&[crate::sample::Sample::new().image()]);
    let reason = match Mount::erofs(&files.merged, &files.layers) {
        Ok(_) => return true,
        Err(Errno::PERM) => "not allowed to mount (needs root)",
        Err(Errno::NODEV) => "the kernel has no EROFS",
        Err(Errno::NOTBLK) => "the kernel does not mount EROFS from a file (needs 6.12)",
        Err(other) => panic!("mounting a merged image failed: {other}"),
    };
    skipped::skip(test, reason);
    false
}
