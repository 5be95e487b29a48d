//! A container's root, mounted both ways and looked through.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};

use super::image::COMMON;

/// Names that are looked up and not there.
const MISSING: u32 = 2_000;

/// The files of an image.
pub(super) struct Files {
    /// The layers, the oldest first.
    pub(super) layers: Vec<PathBuf>,
    /// The merged image.
    pub(super) merged: PathBuf,
}

/// How a container gets the layers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// Each is mounted, and overlayfs joins them.
    Separate,
    /// One merged image is mounted.
    Merged,
}

/// What the parts of a container's life took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    /// All mounts, that of the overlay included.
    pub(super) setup: Duration,
    /// The look-up of a file that is not there, under a name that was not looked up before.
    pub(super) missing: Duration,
    /// Listing everything and looking at each entry.
    pub(super) walk: Duration,
    /// All unmounts, after the walk.
    pub(super) teardown: Duration,
}

/// Mounts a root for a container below `scratch`, looks through it, and unmounts it.
pub(super) fn measure(way: Way, files: &Files, scratch: &Path) -> Result<Times> {
    let work = scratch.join("mounts");
    let images: Vec<Erofs<'_>> = match way {
        Way::Separate => files.layers.iter().rev().map(|image| Erofs { image, devices: &[] }).collect(),
        Way::Merged => vec![Erofs { image: &files.merged, devices: &files.layers }],
    };
    let points: Vec<PathBuf> = (0..images.len()).map(|number| work.join(number.to_string())).collect();
    let [upper, index, root] = ["upper", "work", "root"].map(|name| work.join(name));
    for directory in points.iter().chain([&upper, &index, &root]) {
        fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    }
    let begun = Instant::now();
    for (image, point) in images.iter().zip(&points) {
        image.mount(point)?;
    }
    let lower = points.iter().map(|point| ("lowerdir+", point.as_path()));
    let own = [("upperdir", upper.as_path()), ("workdir", index.as_path())];
    mount("overlay", Path::new("overlay"), lower.chain(own), &root)?;
    let setup = begun.elapsed();
    let (missing, walk) = (look_up_missing(&root.join(COMMON))?, walk(&root)?);
    let begun = Instant::now();
    unmount(&root, UnmountFlags::empty()).context("unmount the overlay")?;
    points.iter().try_for_each(|point| unmount(point, UnmountFlags::empty())).context("unmount a layer")?;
    let teardown = begun.elapsed();
    fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))?;
    Ok(Times { setup, missing, walk, teardown })
}

/// An EROFS file and the files that its data is in.
struct Erofs<'f> {
    image: &'f Path,
    devices: &'f [PathBuf],
}

impl Erofs<'_> {
    fn mount(&self, point: &Path) -> Result<()> {
        mount("erofs", self.image, self.devices.iter().map(|device| ("device", device.as_path())), point)
    }
}

fn mount<'o>(
    fstype: &str,
    source: &Path,
    options: impl Iterator<Item = (&'o str, &'o Path)>,
    point: &Path,
) -> Result<()> {
    let context = fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", source)?;
    for (name, value) in options {
        fsconfig_set_string(&context, name, value)?;
    }
    fsconfig_create(&context).with_context(|| format!("mount {}", source.display()))?;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    Ok(move_mount(&mount, "", CWD, point, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

fn look_up_missing(directory: &Path) -> Result<Duration> {
    // The way to the directory is looked up once before.
    ensure!(directory.join("replaced").exists(), "the image is not what it should be");
    let names: Vec<PathBuf> =
        (0..MISSING).map(|number| directory.join(format!("missing-{number}"))).collect();
    let begun = Instant::now();
    let found = names.iter().filter(|name| fs::symlink_metadata(name).is_ok()).count();
    let took = begun.elapsed();
    ensure!(found == 0, "{found} missing files were found");
    Ok(took / MISSING)
}

fn walk(root: &Path) -> Result<Duration> {
    let begun = Instant::now();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            if fs::symlink_metadata(&path)?.is_dir() {
                pending.push(path);
            }
        }
    }
    Ok(begun.elapsed())
}
