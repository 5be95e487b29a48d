//! What host and guest agree on about layers, and how a guest makes a root file system of them.
//!
//! * [`verity`]: the parameters of a dm-verity device, which pin every byte of a layer.
//! * [`manifest`]: the list of an image's layers with these parameters, and who signed it. It is written in
//!   the one way that [`canonical`] describes, of [`digest`]s and [`word`]s.
//! * [`policy`]: which manifests a guest accepts; its parameters on the kernel's [`command_line`].
//! * [`devices`]: block devices, by what sysfs says about them.
//! * [`descriptor`]: what a host says that a root file system is made of.
//! * [`Part`]: what a device holds. * `padding`: layers that hold nothing, under those that are listed.
//! * [`plan`](plan()): all of these held against each other, before anything is done.
//! * [`assembly`]: a plan carried out and undone.
//! * [`dm`]: device-mapper, by its ioctls. * [`ext4`]: a new file system for what is written.
//!
//! This crate is linked into a static program for guests, so it has few dependencies: no C library of
//! its own, no udev, no async runtime.

pub mod assembly;
pub mod canonical;
pub mod command_line;
pub mod descriptor;
pub mod devices;
pub mod digest;
pub mod dm;
pub mod ext4;
#[cfg(test)]
mod fixtures;
pub mod manifest;
mod padding;
mod part;
mod plan;
pub mod policy;
mod random;
pub mod verity;
pub mod word;

pub use part::Part;
pub use plan::{Lower, NoPlan, Plan, Upper, approve, plan};
