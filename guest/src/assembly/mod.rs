//! A plan carried out: verity devices, mounts, and one root file system; and all of it undone.
//!
//! ```text
//! /run/nexuserofs/ID/state.json   what there is to undo, written before it is there
//!                    layers/N     layer N on its verity device nexuserofs-ID-N, 0 the oldest, or the merged image
//!                    upper        what takes the writes: upper/upper, upper/work; if it is encrypted, on the
//!                                 device nexuserofs-ID-upper
//! ```
//!
//! * `workplace`: these places. * `execute`: doing it. * `teardown`: undoing it.
//! * `upper`: what takes the writes. * `overlay`: layers joined by overlayfs. * `mounts`: the other mounts.
//! * `kernel`: what older ones lack. * `error`: what can go wrong.

mod error;
mod execute;
mod kernel;
mod mounts;
mod overlay;
mod teardown;
mod upper;
mod workplace;

pub use error::Error;
pub use execute::{Reading, execute};
pub use overlay::{join, join_at_once};
pub use teardown::{Busy, teardown};
pub use workplace::{AssemblyId, InvalidId, Workplace};
