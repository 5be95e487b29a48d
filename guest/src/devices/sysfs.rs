//! Reading block devices from sysfs. Format: `Documentation/ABI/testing/sysfs-block` in Linux.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::{BlockDevice, BlockDevices, Partition};
use crate::verity::DeviceNumber;

/// A sysfs, mounted somewhere.
#[derive(Clone, Debug)]
pub struct Sysfs {
    root: PathBuf,
}

/// A sysfs that is not there, or not one.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {source}; is sysfs mounted?", path.display())]
pub struct Unreadable {
    path: PathBuf,
    source: io::Error,
}

/// The unit of sizes in sysfs, whatever a device's own sector is.
const SECTOR: u64 = 512;

/// Comes before the serial in a SCSI disk's page 0x80.
const PAGE_HEADER: usize = 4;

impl Default for Sysfs {
    fn default() -> Self {
        Self::new("/sys")
    }
}

impl Sysfs {
    /// The sysfs at `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// All block devices that are there now.
    ///
    /// # Errors
    /// If `class/block` cannot be read. A device that goes away meanwhile is not there.
    pub fn block_devices(&self) -> Result<BlockDevices, Unreadable> {
        let class = self.root.join("class/block");
        let unreadable = |source| Unreadable { path: class.clone(), source };
        let mut devices = Vec::new();
        for entry in fs::read_dir(&class).map_err(unreadable)? {
            let link = entry.map_err(unreadable)?.path();
            devices.extend(fs::canonicalize(link).ok().and_then(|folder| device(&folder)));
        }
        Ok(BlockDevices::new(devices))
    }
}

fn device(folder: &Path) -> Option<BlockDevice> {
    let partition = partition(folder);
    // What tells disks apart is the disk's; a partition's folder lies in it.
    let disk = if partition.is_some() { folder.parent()? } else { folder };
    Some(BlockDevice {
        name: name(folder)?,
        number: number(&text(folder, "dev")?)?,
        bytes: text(folder, "size")?.parse::<u64>().ok()?.checked_mul(SECTOR)?,
        serial: text(disk, "serial").or_else(|| text(disk, "device/serial")),
        scsi_serial: fs::read(disk.join("device/vpd_pg80")).ok().and_then(|page| page_serial(&page)),
        pci: pci(disk),
        scsi_address: components(disk).into_iter().rev().find_map(scsi_address),
        partition,
    })
}

fn partition(folder: &Path) -> Option<Partition> {
    let number = text(folder, "partition")?.parse().ok()?;
    let uevent = text(folder, "uevent").unwrap_or_default();
    let label = uevent.lines().find_map(|line| line.strip_prefix("PARTNAME=")).map(str::to_owned);
    Some(Partition { disk: name(folder.parent()?)?, number, label })
}

/// The contents of a file without blanks at its ends. None if there are none.
fn text(folder: &Path, file: &str) -> Option<String> {
    let text = fs::read_to_string(folder.join(file)).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn name(folder: &Path) -> Option<String> {
    folder.file_name()?.to_str().map(str::to_owned)
}

fn number(text: &str) -> Option<DeviceNumber> {
    let (major, minor) = text.split_once(':')?;
    Some(DeviceNumber { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

fn page_serial(page: &[u8]) -> Option<String> {
    let serial = std::str::from_utf8(page.get(PAGE_HEADER..)?).ok()?;
    Some(serial.trim_matches(['\0', ' ']).to_owned()).filter(|serial| !serial.is_empty())
}

fn components(folder: &Path) -> Vec<&str> {
    let names = folder.components().filter_map(|component| match component {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    names.collect()
}

/// The slots on the way to a device, `02/03`. None if it is not on PCI.
fn pci(folder: &Path) -> Option<String> {
    let slots: Vec<&str> = components(folder).into_iter().filter_map(slot).collect();
    (!slots.is_empty()).then(|| slots.join("/"))
}

/// The slot in an address such as `0000:00:02.0`.
fn slot(component: &str) -> Option<&str> {
    let (address, function) = component.split_once('.')?;
    let parts: Vec<&str> = address.split(':').collect();
    let is_hex = |text: &&str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match parts.as_slice() {
        [domain, bus, slot] if domain.len() >= 4 && bus.len() == 2 && slot.len() == 2 => {
            let all = [*domain, *bus, *slot, function];
            all.iter().all(is_hex).then_some(*slot)
        }
        _ => None,
    }
}

/// Target and unit in an address such as `2:0:0:1`.
fn scsi_address(component: &str) -> Option<String> {
    let numbers: Vec<u64> = component.split(':').map(|number| number.parse().ok()).collect::<Option<_>>()?;
    match numbers.as_slice() {
        [_, _, target, unit] => Some(format!("{target}:{unit}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::Tree;
    use super::super::{Lookup, Query};

    fn query(text: &str) -> Query {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn devices_are_found_by_everything_that_names_them() {
        let tree = Tree::new();
        tree.virtio("vda", 0, "02/03", Some("l0"));
        tree.virtio("vdb", 16, "02/04", None);
        tree.partition("vdb", 1, 17, Some("erofs-0-s7"));
        tree.partition("vdb", 2, 18, None);
        tree.scsi("sda", 0, "2:0:0:1", "disk-a");
        let devices = tree.sysfs().block_devices().unwrap();
        for (text, name) in [
            (r#"{"serial":"l0"}"#, "vda"),
            (r#"{"path":"/dev/vdb"}"#, "vdb"),
            (r#"{"path":"/dev/vdb2"}"#, "vdb2"),
            (r#"{"pci":"02/04"}"#, "vdb"),
            (r#"{"partition_label":"erofs-0-s7"}"#, "vdb1"),
            (r#"{"partition":{"disk":{"pci":"02/04"},"number":2}}"#, "vdb2"),
            (r#"{"scsi_serial":"disk-a"}"#, "sda"),
            (r#"{"scsi_address":"0:1"}"#, "sda"),
        ] {
            assert_eq!(devices.find(&query(text)).map(|device| device.name.as_str()), Ok(name), "{text}");
        }
        for text in [
            r#"{"serial":"l1"}"#,
            r#"{"serial":"disk-a"}"#,
            r#"{"path":"/dev/../dev/vda"}"#,
            r#"{"pci":"02"}"#,
            r#"{"partition":{"disk":{"pci":"02/04"},"number":3}}"#,
            r#"{"partition":{"disk":{"serial":"l0"},"number":1}}"#,
            r#"{"scsi_address":"0:2"}"#,
        ] {
            let query = query(text);
            let missing = devices.find(&query).unwrap_err();
            assert!(matches!(missing, Lookup::Missing { .. }), "{text}: {missing}");
        }
    }

    #[test]
    fn two_that_fit_are_none() {
        let tree = Tree::new();
        tree.virtio("vda", 0, "02/03", Some("same"));
        tree.virtio("vdb", 16, "02/04", Some("same"));
        let query = query(r#"{"serial":"same"}"#);
        let found = tree.sysfs().block_devices().unwrap().find(&query).cloned();
        assert_eq!(found, Err(Lookup::Ambiguous { query, names: vec!["vda".into(), "vdb".into()] }));
    }

    #[test]
    fn sizes_are_bytes_and_numbers_are_read() {
        let tree = Tree::new();
        tree.virtio("vda", 3, "02/03", None);
        let devices = tree.sysfs().block_devices().unwrap();
        let device = devices.iter().next().unwrap();
        assert_eq!((device.bytes, device.number.to_string().as_str()), (Tree::BYTES, "253:3"));
    }

    #[test]
    fn a_sysfs_that_is_not_mounted_is_said() {
        assert!(super::Sysfs::new("/proc/self/fd").block_devices().is_err());
    }
}
