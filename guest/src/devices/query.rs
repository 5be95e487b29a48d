//! How a device is named.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::word::{InvalidWord, Word};

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

/// A text that names no device.
#[derive(Debug, thiserror::Error)]
pub enum InvalidQuery {
    /// It says not by what.
    #[error(
        "{text:?} names no device: expected serial:, scsi_serial:, partition_label:, path:, pci: or scsi_address: and \
         the rest"
    )]
    Kind {
        /// The text.
        text: String,
    },
    /// It has characters that no name has.
    #[error(transparent)]
    Word(#[from] InvalidWord),
}

impl FromStr for Query {
    type Err = InvalidQuery;

    /// A device as a flag or a kernel's command line names it: `serial:l0`. Partitions of disks have no such text.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let kind = || InvalidQuery::Kind { text: text.to_owned() };
        let (by, name) = text.split_once(':').ok_or_else(kind)?;
        let query = match by {
            "serial" => Self::Serial,
            "scsi_serial" => Self::ScsiSerial,
            "partition_label" => Self::PartitionLabel,
            "path" => Self::Path,
            "pci" => Self::Pci,
            "scsi_address" => Self::ScsiAddress,
            _ => return Err(kind()),
        };
        Ok(query(name.parse()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_says_by_what_a_device_is_known() {
        assert_eq!("serial:l0".parse::<Query>().unwrap(), Query::Serial("l0".parse().unwrap()));
        assert_eq!("scsi_address:0:1".parse::<Query>().unwrap(), Query::ScsiAddress("0:1".parse().unwrap()));
        for text in ["l0", "serial:", "uuid:x", "serial:a b"] {
            assert!(text.parse::<Query>().is_err(), "{text}");
        }
    }
}
