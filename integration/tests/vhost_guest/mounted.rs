//! Mounts that end with the values that stand for them.

use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, mount, move_mount, unmount,
};
use tempfile::TempDir;

/// Something mounted on a directory of its own.
#[derive(Debug)]
pub(crate) struct Mounted {
    point: TempDir,
    /// What an overlay has under its layers. Removed too early, it would end every listing of the root.
    _nothing: Option<TempDir>,
}

impl Mounted {
    /// A device's file system.
    pub(crate) fn device(device: &Path, kind: &str, flags: MountFlags) -> Result<Self> {
        let point = tempfile::tempdir()?;
        mount(device, point.path(), kind, flags, None)
            .with_context(|| format!("mount {}", device.display()))?;
        Ok(Self { point, _nothing: None })
    }

    /// An overlay of file systems, the topmost first. They stay mounted as long as it needs them.
    pub(crate) fn overlay(layers: &[Self]) -> Result<Self> {
        let point = tempfile::tempdir()?;
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        layers.iter().try_for_each(|layer| fsconfig_set_string(&context, "lowerdir+", layer.path()))?;
        // overlayfs wants two layers where none is written to.
        let nothing = tempfile::tempdir()?;
        fsconfig_set_string(&context, "lowerdir+", nothing.path())?;
        fsconfig_create(&context).context("mount an overlay")?;
        let made = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
        move_mount(&made, "", CWD, point.path(), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        Ok(Self { point, _nothing: Some(nothing) })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.point.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(self.point.path(), UnmountFlags::empty()).unwrap();
    }
}
