//! Layers with the owners of a user namespace, mounted for one snapshot.
//!
//! containerd can shift the layers of an overlay itself, but before 2.3 it forgets those that are mounts
//! of their own, and other clients never learnt it. A mount that is shifted already asks nothing of
//! them.

use std::fmt::Write as _;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::mounting::{Error, is_mount_point, make_point};
use crate::expose::idmap::{IdMap, IdMapping};
use crate::sys::id_mapped::{UserNamespace, shift};

/// Mounts each of `layers`, where it is mounted, on `directory/INDEX` as well, with its owners shifted.
/// The directory is made if it is not there. What is mounted there is kept.
///
/// # Errors
/// [`Error::Shift`] if the kernel refuses, and what the file system says.
pub fn mount_shifted(
    layers: impl IntoIterator<Item = PathBuf>,
    directory: &Path,
    mapping: &IdMapping,
) -> Result<(), Error> {
    make_point(directory)?;
    let mut namespace = None;
    for (index, layer) in layers.into_iter().enumerate() {
        let point = directory.join(index.to_string());
        make_point(&point)?;
        if is_mount_point(&point)? {
            continue;
        }
        let refused = |source| Error::Shift { layer: layer.clone(), source };
        let namespace = match namespace.take() {
            Some(made) => namespace.insert(made),
            None => namespace
                .insert(UserNamespace::new(&lines(&mapping.uids), &lines(&mapping.gids)).map_err(refused)?),
        };
        mount_one(&layer, &point, namespace).map_err(refused)?;
    }
    Ok(())
}

fn mount_one(layer: &Path, point: &Path, namespace: &UserNamespace) -> std::io::Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = open_tree(CWD, layer, flags)?;
    shift(mount.as_fd(), namespace)?;
    move_mount(&mount, "", CWD, point, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(())
}

/// A map as the kernel takes it.
fn lines(map: &IdMap) -> String {
    map.ranges().fold(String::new(), |mut lines, (container, host, size)| {
        // Writing to a text cannot fail.
        let _ = writeln!(lines, "{container} {host} {size}");
        lines
    })
}
