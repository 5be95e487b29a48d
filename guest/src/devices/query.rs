//! How a device is named.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::word::Word;

/// What a device is known by. As JSON: `{"serial":"l0"}`, `{"partition":{"disk":{"serial":"d"},"number":1}}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Query {
    /// The serial of a virtio or NVMe disk. virtio's has at most 20 bytes.
    Serial(Word),
    /// The serial of a SCSI disk, as its page 0x80 has it.
    ScsiSerial(Word),
    /// The name of a GPT partition.
    PartitionLabel(Word),
    /// The node as devtmpfs calls it, `/dev/vda`.
    Path(Word),
    /// Slots of the PCI bridges and of the device, as Kata writes them: `02/03`, each in two hex digits.
    Pci(Word),
    /// Target and unit of a SCSI disk, as Kata writes them: `0:1`.
    ScsiAddress(Word),
    /// A partition of a disk.
    Partition {
        /// The disk.
        disk: Box<Query>,
        /// Which, counted from 1.
        number: u32,
    },
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serial(serial) => write!(f, "of the serial {serial}"),
            Self::ScsiSerial(serial) => write!(f, "of the SCSI serial {serial}"),
            Self::PartitionLabel(label) => write!(f, "of the partition name {label}"),
            Self::Path(path) => write!(f, "{path}"),
            Self::Pci(path) => write!(f, "at the PCI path {path}"),
            Self::ScsiAddress(address) => write!(f, "at the SCSI address {address}"),
            Self::Partition { disk, number } => write!(f, "partition {number} of the one {disk}"),
        }
    }
}
