//! Layers that are checked by the kernel while they are read.
//!
//! Such a layer is mounted from a dm-verity device over a loop device over its file. The kernel drops both
//! when the mount goes, also when the daemon was killed before: the loop device clears itself, and the
//! other is marked for removal as soon as it is mounted. So there is nothing to remember.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nexuserofs_guest::dm::{self, DeviceMapper, Name, State, Table};
use nexuserofs_guest::verity::{DeviceNumber, Parameters};
use rustix::mount::MountFlags;

use super::mounting::{self, Error, LayerMounter};
use crate::layer::LayerKey;
use crate::store;
use crate::store::unique::Unique;
use crate::sys::loop_device::Access;

/// How far what is read from a mounted layer is to be relied on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// As far as the disk.
    Unchecked,
    /// A changed byte is an I/O error, if the kernel has dm-verity.
    Preferred(Parameters),
    /// A changed byte is an I/O error, or the layer is not mounted at all.
    Required(Parameters),
}

/// What begins the names of our devices.
const PREFIX: &str = "nexuserofs-";

/// A name for a device of a layer, which no other device has: a layer can be removed and made again while
/// its old device still goes away, and other daemons may have layers of the same key.
fn new_name(layer: &LayerKey) -> Result<Name, store::Error> {
    let name = Unique::new()
        .and_then(|unique| format!("{PREFIX}{layer}-{unique}").parse().map_err(io::Error::other));
    name.map_err(store::Error::io("name a device for", Path::new(layer.as_str())))
}

/// Mounts layers as their integrity demands.
#[derive(Debug, Default)]
pub(super) struct Mounter {
    plain: LayerMounter,
    /// Whether the log says already that the kernel has no dm-verity.
    warned: AtomicBool,
}

/// How a layer came to be mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mounted {
    /// From its file.
    Plain,
    /// From a dm-verity device.
    Checked,
}

impl Mounter {
    /// Mounts the EROFS file `image`, which is the one of `layer`, on the directory `point`.
    pub(super) fn mount(
        &self,
        image: &Path,
        point: &Path,
        layer: &LayerKey,
        integrity: &Integrity,
    ) -> Result<Mounted, Error> {
        let result = match integrity {
            Integrity::Unchecked => None,
            Integrity::Preferred(parameters) => self.unless_missing(checked(image, point, layer, parameters)),
            Integrity::Required(parameters) => Some(checked(image, point, layer, parameters)),
        };
        match result {
            Some(result) => result.map(|()| Mounted::Checked),
            None => self.plain.mount(image, &[], point).map(|()| Mounted::Plain),
        }
    }

    /// Mounts the EROFS file `image`, which is the one of merged layers with these files, on the directory
    /// `point`. Nothing checks it.
    pub(super) fn mount_merged(
        &self,
        image: &Path,
        layers: &[PathBuf],
        point: &Path,
    ) -> Result<Mounted, Error> {
        self.plain.mount(image, layers, point).map(|()| Mounted::Plain)
    }

    /// None where the kernel has no dm-verity, which is said once.
    fn unless_missing(&self, result: Result<(), Error>) -> Option<Result<(), Error>> {
        match &result {
            Err(Error::Verity {
                source: source @ (dm::Error::Missing { .. } | dm::Error::NoVerity), ..
            }) => {
                if !self.warned.swap(true, Ordering::Relaxed) {
                    tracing::warn!(error = %source, "layers are mounted unchecked, although they have hash trees");
                }
                None
            }
            _ => Some(result),
        }
    }
}

/// Mounts through dm-verity.
fn checked(image: &Path, point: &Path, layer: &LayerKey, parameters: &Parameters) -> Result<(), Error> {
    let refused = |source| Error::Verity { image: image.to_owned(), source };
    let mapper = DeviceMapper::open().map_err(refused)?;
    let backing = mounting::attach(image, Access::ReadOnly)?;
    let number = backing.number().map_err(|source| Error::Loop { image: image.to_owned(), source })?;
    let name = new_name(layer)?;
    let device = mapper.create_verity(&name, parameters, number.into()).map_err(refused)?;
    let mounted = mounting::mount(&device.path(), point, "erofs", MountFlags::RDONLY);
    // From now on it goes with its last user, which is the mount, or nobody if that failed.
    let marked = mapper.remove(&name).map_err(refused);
    mounted.and(marked)
}

/// Removes the devices over files below `layers` that nothing is mounted from. A daemon leaves one if it is
/// killed between making and mounting it.
pub(super) fn remove_unused(layers: &Path) {
    let nodes = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    for node in nodes.filter_map(|entry| entry.file_name().into_string().ok()) {
        let Some(device) = Device::of_node(&node).filter(|device| device.image.starts_with(layers)) else {
            continue;
        };
        // One that is in use is marked already.
        if let Err(error) = DeviceMapper::open().and_then(|mapper| mapper.remove(&device.name)) {
            tracing::warn!(%error, "a device that nothing needs stays");
        }
    }
}

/// A device of ours, as its name tells, that a layer is mounted from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    name: Name,
    /// The file that it checks.
    pub(super) image: PathBuf,
    table: Table,
    over: DeviceNumber,
}

impl Device {
    /// What is known of `dm-N`. None if it is not ours or not there any more.
    pub(super) fn of_node(node: &str) -> Option<Self> {
        let name: Name = name_of_node(node)?.parse().ok().filter(is_ours)?;
        let table = DeviceMapper::open().ok()?.table(&name).ok()??;
        let over = data_device(&table)?;
        let attribute = format!("/sys/dev/block/{over}/loop/backing_file");
        let image = PathBuf::from(fs::read_to_string(attribute).ok()?.trim_end_matches('\n'));
        Some(Self { name, image, table, over })
    }

    /// Whether it checks with these parameters.
    pub(super) fn has(&self, parameters: &Parameters) -> bool {
        self.table == Table::of(parameters, self.over)
    }

    /// Whether it found a block that is not what its hash says.
    pub(super) fn is_corrupted(&self) -> bool {
        let state = DeviceMapper::open().and_then(|mapper| mapper.state(&self.name));
        matches!(state, Ok(Some(State::Corrupted)))
    }
}

fn is_ours(name: &Name) -> bool {
    name.as_str().starts_with(PREFIX)
}

/// The name that device-mapper has for `dm-N`.
pub(super) fn name_of_node(node: &str) -> Option<String> {
    let attribute = Path::new("/sys/block").join(node).join("dm/name");
    Some(fs::read_to_string(attribute).ok()?.trim_end().to_owned())
}

/// The layer that a device shows, by its name: one of ours, or of containerd's mount manager, which takes the
/// name of the directory that the layer's file is in (`plugins/mount/erofs`).
pub(super) fn layer_of_device(name: &str) -> Option<LayerKey> {
    let key = match name.strip_prefix(PREFIX) {
        Some(ours) => ours.rsplit_once('-')?.0,
        None => name.strip_prefix("containerd-erofs-")?,
    };
    key.parse().ok()
}

/// The device that is checked, from the parameters of its table.
fn data_device(table: &Table) -> Option<DeviceNumber> {
    let (major, minor) = table.line.split(' ').nth(1)?.split_once(':')?;
    Some(DeviceNumber { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices_tell_the_layer() {
        let key: LayerKey = format!("v1-{}", "ab".repeat(16)).parse().unwrap();
        let (name, other) = (new_name(&key).unwrap(), new_name(&key).unwrap());
        assert_ne!(name, other);
        assert_eq!(layer_of_device(name.as_str()), Some(key.clone()));
        assert_eq!(layer_of_device(&format!("containerd-erofs-{key}")), Some(key));
        for foreign in ["nexuserofs-", "nexuserofs-x-y", "containerd-erofs-12", "vg-root", ""] {
            assert_eq!(layer_of_device(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_table_names_the_device_that_it_checks() {
        let table = |line: &str| Table { sectors: 8, line: line.to_owned() };
        let number = data_device(&table("1 7:12 7:12 4096 4096 1 2 sha256 00 -"));
        assert_eq!(number, Some(DeviceNumber { major: 7, minor: 12 }));
        assert_eq!(data_device(&table("1 /dev/loop0 /dev/loop0 4096")), None);
        assert_eq!(data_device(&table("")), None);
    }
}
