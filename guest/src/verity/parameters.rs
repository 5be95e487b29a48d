//! All parameters of a device together.

use std::fmt;
use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use super::{BlockSize, RootDigest, Salt};

/// What determines a dm-verity device whose hash tree lies behind its data on the same block device.
///
/// The root digest alone pins nothing: the same digest with fewer data blocks is accepted by the kernel,
/// and so is a node of the tree as if it were data. All of these together pin every byte.
///
/// As JSON it is an object with the names of [`Fields`]; one that says something else is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Fields", try_from = "Fields")]
pub struct Parameters(Fields);

/// The parameters before they were held against each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fields {
    /// The root of the hash tree.
    pub root_digest: RootDigest,
    /// Hashed before each block.
    pub salt: Salt,
    /// Unit of the data.
    pub data_block_size: BlockSize,
    /// Unit of the hash tree.
    pub hash_block_size: BlockSize,
    /// Length of the data, in data blocks.
    pub data_blocks: NonZeroU64,
    /// Where the hash tree begins, behind the superblock, in hash blocks from the device's beginning.
    pub hash_start_block: u64,
}

/// Parameters that contradict each other.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidParameters {
    /// The device would be larger than any can be.
    #[error(
        "no device has {data_blocks} data blocks and hashes from block {hash_start_block} on: that is more than 2^63 bytes"
    )]
    TooLarge {
        /// Length of the data in data blocks.
        data_blocks: u64,
        /// Where the hash tree begins, in hash blocks.
        hash_start_block: u64,
    },
    /// The hash tree would lie in the data.
    #[error("hashes from byte {hash_start} on lie in the data, which takes {data_bytes} bytes")]
    Overlap {
        /// Where the hash tree begins, in bytes.
        hash_start: u64,
        /// Length of the data in bytes.
        data_bytes: u64,
    },
}

/// The number of a block device, as device-mapper's tables print it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceNumber {
    /// Which driver.
    pub major: u32,
    /// Which of the driver's devices.
    pub minor: u32,
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl From<u64> for DeviceNumber {
    /// From a `dev_t`, as `stat` gives it for a device.
    fn from(device: u64) -> Self {
        Self { major: rustix::fs::major(device), minor: rustix::fs::minor(device) }
    }
}

/// Bytes in the unit in which device-mapper counts.
const SECTOR: u64 = 512;

/// The hash type in which the salt comes before the block (type 0 is Chrome OS's).
const HASH_TYPE: u32 = 1;

impl Parameters {
    /// The parameters of a device.
    ///
    /// # Errors
    /// If the hash tree would begin in the data, or nothing that large exists.
    pub fn new(fields: Fields) -> Result<Self, InvalidParameters> {
        let too_large = || InvalidParameters::TooLarge {
            data_blocks: fields.data_blocks.get(),
            hash_start_block: fields.hash_start_block,
        };
        let data_bytes = bytes(fields.data_blocks.get(), fields.data_block_size).ok_or_else(too_large)?;
        let hash_start = bytes(fields.hash_start_block, fields.hash_block_size).ok_or_else(too_large)?;
        if hash_start < data_bytes {
            return Err(InvalidParameters::Overlap { hash_start, data_bytes });
        }
        Ok(Self(fields))
    }

    /// The single parameters.
    #[must_use]
    pub const fn fields(&self) -> &Fields {
        &self.0
    }

    /// Length of the data in bytes, which is the device's size.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        // `new` computed it, and it was no more than 2^63.
        bytes(self.0.data_blocks.get(), self.0.data_block_size).unwrap_or(u64::MAX)
    }

    /// Length of the data in sectors of 512 bytes, as the ioctls count.
    #[must_use]
    pub fn data_sectors(&self) -> u64 {
        self.data_bytes() / SECTOR
    }

    /// The parameters of the target `verity`, exactly as the kernel prints them for a device that has
    /// them: so two devices are equal if these lines are.
    #[must_use]
    pub fn table_line(&self, device: DeviceNumber) -> String {
        let Fields { root_digest, salt, data_block_size, hash_block_size, data_blocks, hash_start_block } =
            &self.0;
        let salt = if salt.as_bytes().is_empty() { "-".to_owned() } else { salt.hex() };
        format!(
            "{HASH_TYPE} {device} {device} {} {} {data_blocks} {hash_start_block} {} {} {salt}",
            data_block_size.bytes(),
            hash_block_size.bytes(),
            root_digest.algorithm(),
            root_digest.hex(),
        )
    }
}

/// So many blocks in bytes, if that is a size that a device can have.
fn bytes(blocks: u64, size: BlockSize) -> Option<u64> {
    blocks.checked_mul(size.bytes().into()).filter(|bytes| i64::try_from(*bytes).is_ok())
}

impl From<Parameters> for Fields {
    fn from(parameters: Parameters) -> Self {
        parameters.0
    }
}

impl TryFrom<Fields> for Parameters {
    type Error = InvalidParameters;

    fn try_from(fields: Fields) -> Result<Self, Self::Error> {
        Self::new(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(data_blocks: u64, hash_start_block: u64) -> Fields {
        Fields {
            root_digest: RootDigest::Sha256([0xab; 32]),
            salt: Salt::zeros(),
            data_block_size: BlockSize::PAGE,
            hash_block_size: BlockSize::PAGE,
            data_blocks: NonZeroU64::new(data_blocks).unwrap(),
            hash_start_block,
        }
    }

    #[test]
    fn the_line_is_the_one_that_the_kernel_documents() {
        let line = |fields| Parameters::new(fields).unwrap().table_line(DeviceNumber { major: 7, minor: 3 });
        let (root, zeros) = ("ab".repeat(32), "00".repeat(32));
        assert_eq!(line(fields(294, 295)), format!("1 7:3 7:3 4096 4096 294 295 sha256 {root} {zeros}"));
        let unsalted = Fields { salt: Salt::new(&[]).unwrap(), ..fields(1, 2) };
        assert_eq!(line(unsalted), format!("1 7:3 7:3 4096 4096 1 2 sha256 {root} -"));
    }

    #[test]
    fn sizes_are_those_of_the_data() {
        let parameters = Parameters::new(fields(294, 295)).unwrap();
        assert_eq!((parameters.data_bytes(), parameters.data_sectors()), (294 * 4096, 294 * 8));
    }

    #[test]
    fn a_tree_in_the_data_is_refused() {
        assert_eq!(
            Parameters::new(fields(294, 293)),
            Err(InvalidParameters::Overlap { hash_start: 293 * 4096, data_bytes: 294 * 4096 })
        );
        let small_hashes = Fields { hash_block_size: BlockSize::SECTOR, ..fields(2, 15) };
        assert!(Parameters::new(small_hashes.clone()).is_err());
        assert!(Parameters::new(Fields { hash_start_block: 16, ..small_hashes }).is_ok());
    }

    #[test]
    fn a_size_that_no_device_has_is_refused() {
        for (data_blocks, hash_start_block) in [(u64::MAX, u64::MAX), (1 << 51, 1 << 51), (1, u64::MAX)] {
            let refused = Parameters::new(fields(data_blocks, hash_start_block));
            assert_eq!(refused, Err(InvalidParameters::TooLarge { data_blocks, hash_start_block }));
        }
    }

    #[test]
    fn json_is_read_as_it_is_written_and_checked() {
        let parameters = Parameters::new(fields(294, 295)).unwrap();
        let json = serde_json::to_value(&parameters).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "root_digest": format!("sha256:{}", "ab".repeat(32)),
                "salt": "00".repeat(32),
                "data_block_size": 4096,
                "hash_block_size": 4096,
                "data_blocks": 294,
                "hash_start_block": 295,
            })
        );
        assert_eq!(serde_json::from_value::<Parameters>(json.clone()).unwrap(), parameters);
        for (name, value) in [
            ("data_blocks", serde_json::json!(0)),
            ("data_blocks", serde_json::json!(296)),
            ("hash_block_size", serde_json::json!(8192)),
            ("salt", serde_json::json!("0")),
            ("root_digest", serde_json::json!("ab".repeat(32))),
            ("flags", serde_json::json!(1)),
        ] {
            let mut wrong = json.clone();
            wrong[name] = value;
            assert!(serde_json::from_value::<Parameters>(wrong).is_err(), "{name}");
        }
    }

    #[test]
    fn device_numbers_are_split_as_the_kernel_splits_them() {
        assert_eq!(DeviceNumber::from(0x0703), DeviceNumber { major: 7, minor: 3 });
        assert_eq!(DeviceNumber::from(0x10_fd01), DeviceNumber { major: 253, minor: 257 });
    }
}
