//! Block devices, found by what sysfs says about them. udev is not needed and not asked.
//!
//! A host names the device of each layer. That is a hint: a wrong device shows as a wrong hash. One that
//! fits several devices is refused, so that nobody has to know which of them was meant.
//!
//! * `query`: how a device is named. * `device`: what is known about one. * `sysfs`: reading it.
//! * `wait`: until all are there.

mod device;
mod query;
mod sysfs;
#[cfg(test)]
mod tree;
mod wait;

pub use device::{BlockDevice, BlockDevices, Lookup, Partition};
pub use query::{InvalidQuery, Query};
pub use sysfs::{Sysfs, Unreadable};
pub use wait::{Wait, wait_for};
