//! Many layers, joined in the ways of new and of old kernels.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nexuserofs_guest::assembly::{join, join_at_once};
use nexuserofs_integration::stage::Place;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

type Join = fn(&[PathBuf], Option<&Path>, &Path) -> io::Result<()>;

pub(crate) fn two_hundred_layers_are_joined_one_by_one(place: &Place) -> Result<()> {
    joined(place, 200, join)
}

pub(crate) fn a_hundred_layers_are_joined_at_once(place: &Place) -> Result<()> {
    joined(place, 100, join_at_once)
}

/// Directories in memory, each with a file of its own and one that hides the same of those below.
fn joined(place: &Place, count: usize, join: Join) -> Result<()> {
    let memory = place.scratch.join("m");
    fs::create_dir_all(&memory)?;
    mount("tmpfs", &memory, "tmpfs", MountFlags::empty(), None::<&std::ffi::CStr>)?;
    let seen = in_memory(&memory, count, join);
    unmount(&memory, UnmountFlags::empty())?;
    seen
}

fn in_memory(memory: &Path, count: usize, join: Join) -> Result<()> {
    let layers: Vec<PathBuf> = (0..count).map(|index| memory.join(index.to_string())).collect();
    for (index, layer) in layers.iter().enumerate() {
        fs::create_dir(layer)?;
        fs::write(layer.join("newest"), index.to_string())?;
        fs::write(layer.join(format!("own-{index}")), "")?;
    }
    let (writable, root) = (memory.join("w"), memory.join("root"));
    for path in [&root, &writable.join("upper"), &writable.join("work")] {
        fs::create_dir_all(path)?;
    }
    join(&layers, Some(&writable), &root).with_context(|| format!("join {count} layers"))?;
    let files = fs::read_dir(&root).map(Iterator::count);
    let newest = fs::read_to_string(root.join("newest"));
    let written = fs::write(root.join("own-0"), "written");
    unmount(&root, UnmountFlags::empty())?;
    ensure!(files? == count + 1);
    ensure!(newest? == (count - 1).to_string());
    written?;
    ensure!(fs::read_to_string(writable.join("upper/own-0"))? == "written");
    Ok(())
}
