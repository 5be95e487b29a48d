//! Device-mapper by its ioctls, as far as devices of the targets `verity` and `crypt` need it.
//!
//! libdevmapper and udev are not needed: nodes are devtmpfs's `/dev/dm-N`. Interface:
//! `include/uapi/linux/dm-ioctl.h` in Linux, version 4 of it.
//!
//! * [`DeviceMapper`]: devices made, found, asked and removed.
//! * [`Name`]: what a device is called. * [`Key`]: what a device of the target `crypt` is encrypted with.
//! * `message`: what goes to the kernel and comes back, as bytes; `ioctl`: the calls, with the only
//!   unsafe code of this crate.

mod control;
mod crypt;
mod error;
mod ioctl;
mod message;
mod name;

pub use control::{Device, DeviceMapper, State, Table};
pub use crypt::Key;
pub use error::Error;
pub use message::Version;
pub use name::{InvalidName, Name};
