//! What is known about block devices.

use serde::Serialize;

use super::Query;
use crate::verity::DeviceNumber;

/// A disk or a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlockDevice {
    /// The kernel's name, `vda`; its node is `/dev/vda`.
    pub name: String,
    /// Its number.
    #[serde(serialize_with = "as_text")]
    pub number: DeviceNumber,
    /// Its size in bytes.
    pub bytes: u64,
    /// Serial of a virtio or NVMe disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Serial of a SCSI disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scsi_serial: Option<String>,
    /// Slots of the PCI bridges and of the device, in hex digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pci: Option<String>,
    /// Target and unit of a SCSI disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scsi_address: Option<String>,
    /// None for a whole disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<Partition>,
}

/// What a partition has more than a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// The kernel's name of its disk.
    pub disk: String,
    /// Counted from 1.
    pub number: u32,
    /// Its name in a GPT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// All block devices of a machine at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct BlockDevices(Vec<BlockDevice>);

/// A query that does not lead to one device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lookup {
    /// No device fits.
    #[error("there is no device {query}")]
    Missing {
        /// What was looked for.
        query: Query,
    },
    /// More than one fits.
    #[error("there are several devices {query}: {}; each layer's must be told from the others", names.join(", "))]
    Ambiguous {
        /// What was looked for.
        query: Query,
        /// The kernel's names of those that fit.
        names: Vec<String>,
    },
}

impl BlockDevices {
    /// These devices, in the order of their names.
    #[must_use]
    pub fn new(mut devices: Vec<BlockDevice>) -> Self {
        devices.sort_by(|one, other| one.name.cmp(&other.name));
        Self(devices)
    }

    /// The devices in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &BlockDevice> {
        self.0.iter()
    }

    /// The one device that is meant.
    ///
    /// # Errors
    /// If there is none, or more than one.
    pub fn find(&self, query: &Query) -> Result<&BlockDevice, Lookup> {
        let fitting: Vec<&BlockDevice> = match query {
            Query::Partition { disk, number } => {
                let disk = self.find(disk)?;
                self.0.iter().filter(|device| device.is_partition(&disk.name, *number)).collect()
            }
            query => self.0.iter().filter(|device| device.fits(query)).collect(),
        };
        match fitting.as_slice() {
            [device] => Ok(device),
            [] => Err(Lookup::Missing { query: query.clone() }),
            several => Err(Lookup::Ambiguous {
                query: query.clone(),
                names: several.iter().map(|device| device.name.clone()).collect(),
            }),
        }
    }
}

impl BlockDevice {
    /// The node that devtmpfs has for it.
    #[must_use]
    pub fn path(&self) -> String {
        // sysfs has `!` where a name has a slash.
        format!("/dev/{}", self.name.replace('!', "/"))
    }

    fn fits(&self, query: &Query) -> bool {
        let is = |found: &Option<String>, wanted: &str| found.as_deref() == Some(wanted);
        let label = || self.partition.as_ref().and_then(|partition| partition.label.as_deref());
        match query {
            Query::Path(path) => self.path() == path.as_str(),
            Query::PartitionLabel(wanted) => label() == Some(wanted.as_str()),
            // What is said of a disk does not mean its partitions.
            _ if self.partition.is_some() => false,
            Query::Serial(wanted) => is(&self.serial, wanted.as_str()),
            Query::ScsiSerial(wanted) => is(&self.scsi_serial, wanted.as_str()),
            Query::Pci(wanted) => is(&self.pci, wanted.as_str()),
            Query::ScsiAddress(wanted) => is(&self.scsi_address, wanted.as_str()),
            Query::Partition { .. } => false,
        }
    }

    /// Whether what is written to one of them can be read from the other: they are one device, or a disk and its partition.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let has = |disk: &Self, device: &Self| {
            device.partition.as_ref().is_some_and(|partition| partition.disk == disk.name)
        };
        self.number == other.number || has(self, other) || has(other, self)
    }

    fn is_partition(&self, disk: &str, number: u32) -> bool {
        self.partition.as_ref().is_some_and(|partition| partition.disk == disk && partition.number == number)
    }
}

fn as_text<S: serde::Serializer>(number: &DeviceNumber, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}
