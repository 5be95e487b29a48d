//! An image as one block device: the files that a virtual machine monitor is given for it.
//!
//! A [`Form`] says what lies on the device ([`Layout`]) and what the monitor opens ([`Carrier`]). All forms of a chain
//! come from one map of what lies where, and are functions of the layers: who makes one again gets the same bytes.
//! `docs/block-devices.md` tells which monitor takes which.
//!
//! | form | files beside the chain |
//! |---|---|
//! | merged, VMDK | `merged.vmdk`, `layers.manifest` |
//! | merged, flat | `merged.img` |
//! | verified, VMDK | `verified.vmdk` |
//! | verified, flat | `verified.img` |
//! | partitions, VMDK | `layers.vmdk`, `layers.head`, `layers.pad` (nerdbox's style: `layers-nerdbox.*`) |
//! | partitions, flat | `layers.img` |
//!
//! * `blueprint`: what lies where, and in which files.
//! * `vmdk`: the descriptor, and files for what no layer has. `flat`: everything in one file.
//! * `manifest`: the list of layers that spinbox compares.
//! * `place`: finished files get their names, once.
//! * `check`: whether a descriptor's files are still there.

mod blueprint;
mod check;
mod error;
mod flat;
mod manifest;
mod place;
mod vmdk;

use std::fs;
use std::path::{Path, PathBuf};

pub use check::check;
pub use error::Error;

use blueprint::Blueprint;

use crate::image::extent::ExtentMap;
use crate::image::gpt::Style;
use crate::store;
use crate::store::staging::StagingArea;

/// Mode of every file here: a monitor that runs as another user may read it.
const FILE_MODE: u32 = 0o644;

/// A chain, as a device is made of it.
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a> {
    /// The directory in which the device's files will be, absolute. Descriptors name files in it.
    pub home: &'a Path,
    /// Where the merged metadata, `fsmeta.erofs`, can be read now, with its tree, `merged.verity`, beside it if there is
    /// one. None for layers that were not merged.
    pub metadata: Option<&'a Path>,
    /// The layers' files, oldest first, absolute.
    pub layers: &'a [PathBuf],
}

/// A kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    /// What lies on it.
    pub layout: Layout,
    /// What the monitor opens.
    pub carrier: Carrier,
}

/// What lies on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// The merged metadata and behind it all layers, oldest first: one EROFS file system, mounted without `device=`
    /// (Linux 6.4). A single layer is one without metadata too.
    Merged,
    /// The same and behind it the hash tree over all of it, which has to be beside the metadata: what a guest makes one
    /// dm-verity device of. A single layer has its own tree in its file.
    Verified,
    /// A partition for each layer. The newest is the first, as containerd lists mounts, and Kata and nerdbox with it.
    Partitions(Style),
}

/// What the monitor opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// A VMDK descriptor, which names the layers' own files.
    Vmdk,
    /// One file with everything in it. It shares the layers' space where the file system can (XFS, Btrfs), and is a copy
    /// elsewhere.
    Flat,
}

/// A device that is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// What the monitor opens.
    pub path: PathBuf,
    /// Size of the device in bytes.
    pub bytes: u64,
}

impl Form {
    /// Base name of what the monitor opens.
    #[must_use]
    pub const fn file_name(self) -> &'static str {
        match (self.layout, self.carrier) {
            (Layout::Merged, Carrier::Vmdk) => "merged.vmdk",
            (Layout::Merged, Carrier::Flat) => "merged.img",
            (Layout::Verified, Carrier::Vmdk) => "verified.vmdk",
            (Layout::Verified, Carrier::Flat) => "verified.img",
            (Layout::Partitions(Style::Kata), Carrier::Vmdk) => "layers.vmdk",
            (Layout::Partitions(Style::Kata), Carrier::Flat) => "layers.img",
            (Layout::Partitions(Style::Nerdbox), Carrier::Vmdk) => "layers-nerdbox.vmdk",
            (Layout::Partitions(Style::Nerdbox), Carrier::Flat) => "layers-nerdbox.img",
        }
    }
}

/// What lies where on a device, and the files that are read for it, by their numbers there: for whoever serves it.
///
/// # Errors
/// If the layers cannot have this layout, or a file is not there.
pub fn lay_out(layout: Layout, chain: Chain<'_>) -> Result<(ExtentMap, Vec<PathBuf>), Error> {
    let Blueprint { map, files } = Blueprint::of(layout, chain)?;
    Ok((map, files.into_iter().map(|file| file.readable).collect()))
}

/// Writes the files of a device into `into`, which will be the chain's home: for whoever makes the whole directory
/// out of sight. Files and names are on the disk afterwards.
///
/// `progress` is called with the number of bytes of the device that are done.
///
/// # Errors
/// If the layers cannot have this form, a file is not there, or writing fails.
pub fn write(form: Form, chain: Chain<'_>, into: &Path, progress: &mut dyn FnMut(u64)) -> Result<(), Error> {
    let blueprint = Blueprint::of(form.layout, chain)?;
    write_files(form, chain, &blueprint, into, progress)?;
    Ok(store::sync_directory(into)?)
}

/// Makes a device in the chain's home, which is there. What was made before is taken as it is: a device never changes.
///
/// `progress` is called with the number of bytes of the device that are done.
///
/// # Errors
/// As [`write()`]; also if there is such a device of other layers.
pub fn make(
    form: Form,
    chain: Chain<'_>,
    staging: &StagingArea,
    progress: &mut dyn FnMut(u64),
) -> Result<Device, Error> {
    let blueprint = Blueprint::of(form.layout, chain)?;
    let device = Device { path: chain.home.join(form.file_name()), bytes: blueprint.map.length() };
    if !is_there(form, chain, &blueprint, &device)? {
        let scratch = staging.scratch()?;
        let names = write_files(form, chain, &blueprint, scratch.path(), progress)?;
        place::all(&names, scratch.path(), chain.home)?;
    }
    progress(device.bytes);
    Ok(device)
}

/// Writes the files, and returns their names. The one that the monitor opens is the last.
fn write_files(
    form: Form,
    chain: Chain<'_>,
    blueprint: &Blueprint,
    into: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<String>, Error> {
    let name = form.file_name();
    match form.carrier {
        Carrier::Flat => {
            flat::write(&into.join(name), blueprint, progress)?;
            Ok(vec![name.to_owned()])
        }
        Carrier::Vmdk => {
            let plan = vmdk::Plan::of(name, chain.home, blueprint)?;
            let mut names = plan.write_parts(into)?;
            if form.layout == Layout::Merged {
                place::write_file(&into.join(manifest::NAME), manifest::text(chain.layers).as_bytes())?;
                names.push(manifest::NAME.to_owned());
            }
            place::write_file(&into.join(name), plan.text().as_bytes())?;
            names.push(name.to_owned());
            Ok(names)
        }
    }
}

/// Whether the device was made already.
fn is_there(form: Form, chain: Chain<'_>, blueprint: &Blueprint, device: &Device) -> Result<bool, Error> {
    match fs::symlink_metadata(&device.path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        found => found.map_err(store::Error::io("look at", &device.path))?,
    };
    let same = match form.carrier {
        Carrier::Flat => flat::is_of(&device.path, blueprint)?,
        Carrier::Vmdk => {
            let plan = vmdk::Plan::of(form.file_name(), chain.home, blueprint)?;
            check::text(&device.path)? == plan.text()
        }
    };
    if same { Ok(true) } else { Err(Error::Stale { path: device.path.clone() }) }
}
