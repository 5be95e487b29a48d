//! A plan carried out.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::workplace::State;
use super::{Busy, Error, Workplace, mounts, overlay, teardown};
use crate::dm::{self, DeviceMapper};
use crate::plan::{Lower, Plan, Upper};

/// How much of the layers is read before anything is made of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// What mounting reads. A wrong block elsewhere is an error of whoever reads it later.
    Mounting,
    /// Everything.
    Everything,
}

/// Makes the root file system of `plan` on the directory `target`.
///
/// # Errors
/// If the workplace is taken, a verity device or a mount fails, or a layer is not what the manifest says.
/// Whatever was made is undone then.
pub fn execute(plan: &Plan, workplace: &Workplace, target: &Path, reading: Reading) -> Result<(), Error> {
    let mapper = DeviceMapper::open()?;
    workplace.make(plan.lowers().len())?;
    assemble(&mapper, plan, workplace, target, reading).inspect_err(|_| {
        // The error that is told is the first. What cannot be undone is still on record.
        let _ = teardown(workplace, Busy::Refuse);
    })
}

fn assemble(
    mapper: &DeviceMapper,
    plan: &Plan,
    workplace: &Workplace,
    target: &Path,
    reading: Reading,
) -> Result<(), Error> {
    let on_record = |layers, target| workplace.write(&State { layers, target });
    let mut layers = Vec::with_capacity(plan.lowers().len());
    for (index, lower) in plan.lowers().iter().enumerate() {
        on_record(index + 1, None)?;
        match layer(mapper, workplace, index, lower, reading) {
            Ok(path) => layers.push(path),
            Err(error) => {
                if matches!(error, Error::Device(dm::Error::NameTaken { .. })) {
                    // The device of this name is not ours to take away.
                    on_record(index, None)?;
                }
                return Err(error);
            }
        }
    }
    let writable = writable(plan.upper(), workplace)?;
    on_record(layers.len(), Some(target.to_owned()))?;
    let failed = |source| Error::Mount { what: "the root".to_owned(), path: target.to_owned(), source };
    let mounted = match (layers.as_slice(), &writable) {
        ([only], None) => rustix::mount::mount_bind(only, target).map_err(io::Error::from),
        (layers, writable) => overlay::join(layers, writable.as_deref(), target),
    };
    if let Err(source) = mounted {
        // What is mounted there, if anything, is not ours to take away.
        on_record(layers.len(), None)?;
        return Err(failed(source));
    }
    mounts::keep_to_itself(target).map_err(failed)
}

/// A layer on its verity device, mounted.
fn layer(
    mapper: &DeviceMapper,
    workplace: &Workplace,
    index: usize,
    lower: &Lower,
    reading: Reading,
) -> Result<PathBuf, Error> {
    let name = workplace.device(index)?;
    let device = mapper.create_verity(&name, &lower.verity, lower.number)?.path();
    let path = workplace.layer(index);
    let mut done = Ok(());
    if reading == Reading::Everything {
        done = read(&device).map_err(Error::file("read", &device));
    }
    let mounted = done.and_then(|()| {
        mounts::erofs(&device, &path).map_err(|source| Error::Mount {
            what: format!("layer {index} ({})", lower.device),
            path: path.clone(),
            source,
        })
    });
    match mounted {
        Err(_) if mapper.state(&name)? == Some(dm::State::Corrupted) => {
            let when = "before anything was made of it";
            Err(Error::Corrupted { layer: index, device: lower.device.clone(), when })
        }
        mounted => mounted.map(|()| path),
    }
}

/// Where the writes go, ready for overlayfs.
fn writable(upper: &Upper, workplace: &Workplace) -> Result<Option<PathBuf>, Error> {
    let path = workplace.upper();
    let (what, mounted) = match upper {
        Upper::None => return Ok(None),
        Upper::Tmpfs { size } => ("memory".to_owned(), mounts::tmpfs(*size, &path)),
        Upper::Device { path: device } => (device.clone(), mounts::ext4(Path::new(device), &path)),
    };
    mounted.map_err(|source| Error::Mount { what, path: path.clone(), source })?;
    for (name, mode) in [("upper", 0o755), ("work", 0o700)] {
        let path = path.join(name);
        match fs::create_dir(&path) {
            // What an earlier run of a guest that trusts its host wrote.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made.and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode))),
        }
        .map_err(Error::file("make", path))?;
    }
    Ok(Some(path))
}

/// Reads a device to its end.
fn read(device: &Path) -> io::Result<()> {
    let mut device = File::open(device)?;
    let mut buffer = vec![0; 1 << 20];
    while device.read(&mut buffer)? > 0 {}
    Ok(())
}
