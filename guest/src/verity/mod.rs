//! The parameters of a dm-verity device.
//!
//! A device with these parameters shows the bytes that they were computed from, or an I/O error. They
//! come from a record or a signed list, never from the device: its superblock is the host's to write.
//! Format of the table: `Documentation/admin-guide/device-mapper/verity.rst` in Linux.

mod block_size;
mod digest;
pub(crate) mod hex;
mod parameters;
mod salt;

pub use block_size::{BlockSize, InvalidBlockSize};
pub use digest::{InvalidRootDigest, RootDigest};
pub use parameters::{DeviceNumber, Fields, InvalidParameters, Parameters};
pub use salt::{InvalidSalt, Salt};
