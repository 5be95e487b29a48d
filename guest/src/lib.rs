//! What host and guest agree on about layers, and the devices that both make of it.
//!
//! * [`verity`]: the parameters of a dm-verity device, which pin every byte of a layer.
//! * [`dm`]: device-mapper, by its ioctls.
//!
//! This crate is linked into a static program for guests, so it has few dependencies: no C library of
//! its own, no udev, no async runtime.

pub mod dm;
pub mod verity;
