//! A plan carried out.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::workplace::State;
use super::{Busy, Error, Workplace, kernel, mounts, overlay, teardown, upper};
use crate::dm::{self, DeviceMapper};
use crate::part::Part;
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
    let on_record = |layers| workplace.write(&State { layers, ..State::default() });
    let mut layers = Vec::with_capacity(plan.lowers().len());
    for (index, lower) in plan.lowers().iter().enumerate() {
        on_record(index + 1)?;
        match layer(mapper, workplace, index, lower, reading) {
            Ok(path) => layers.push(path),
            Err(error) => {
                if is_taken(&error) {
                    on_record(index)?;
                }
                return Err(error);
            }
        }
    }
    let upper_device = matches!(plan.upper(), Upper::Encrypted { .. });
    let on_record = |target| workplace.write(&State { layers: layers.len(), upper_device, target });
    on_record(None)?;
    let writable = upper::make(mapper, plan.upper(), workplace).inspect_err(|error| {
        if is_taken(error) {
            // The error that is told is the first.
            let _ = workplace.write(&State { layers: layers.len(), ..State::default() });
        }
    })?;
    on_record(Some(target.to_owned()))?;
    let failed = |source| Error::Mount { what: "the root".to_owned(), path: target.to_owned(), source };
    let mounted = match (layers.as_slice(), &writable) {
        ([only], None) => rustix::mount::mount_bind(only, target).map_err(io::Error::from),
        (layers, writable) => overlay::join(layers, writable.as_deref(), target),
    };
    if let Err(source) = mounted {
        // What is mounted there, if anything, is not ours to take away.
        on_record(None)?;
        return Err(failed(source));
    }
    mounts::keep_to_itself(target).map_err(failed)
}

/// Whether a device of the name is there that is not ours to take away.
const fn is_taken(error: &Error) -> bool {
    matches!(error, Error::Device(dm::Error::NameTaken { .. }))
}

/// A layer, or the merged image, on its verity device, mounted.
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
    let mounted =
        done.and_then(|()| mounts::erofs(&device, &path).map_err(|source| not_mounted(lower, &path, source)));
    match mounted {
        Err(_) if mapper.state(&name)? == Some(dm::State::Corrupted) => {
            let when = "before anything was made of it";
            Err(Error::Corrupted { part: lower.part, device: lower.device.clone(), when })
        }
        mounted => mounted.map(|()| path),
    }
}

/// Why the kernel did not mount a part of the image that is what it should be. Some kernels before 6.4 got what merged
/// images need, so it is not asked before.
fn not_mounted(lower: &Lower, path: &Path, source: io::Error) -> Error {
    let Lower { part, device, .. } = lower;
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    match *part == Part::Merged && kernel::is_older(&release, kernel::MERGED_IMAGES) {
        true => Error::OldKernel { device: device.clone(), release, source },
        false => Error::Mount { what: format!("{part} ({device})"), path: path.to_owned(), source },
    }
}

/// Reads a device to its end.
fn read(device: &Path) -> io::Result<()> {
    let mut device = File::open(device)?;
    let mut buffer = vec![0; 1 << 20];
    while device.read(&mut buffer)? > 0 {}
    Ok(())
}
