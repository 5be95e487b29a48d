//! A plan carried out: verity devices, mounts, and one root file system; and all of it undone.
//!
//! ```text
//! /run/nexuserofs/ID/state.json   what there is to undo, written before it is there
//!                    layers/N     layer N on its verity device nexuserofs-ID-N, 0 the oldest
//!                    upper        what takes the writes: upper/upper, upper/work
//! ```
//!
//! * `workplace`: these places. * `execute`: doing it. * `teardown`: undoing it.
//! * `overlay`: layers joined by overlayfs. * `mounts`: the other mounts. * `error`: what can go wrong.

mod error;
mod execute;
mod mounts;
mod overlay;
mod teardown;
mod workplace;

pub use error::Error;
pub use execute::{Reading, execute};
pub use overlay::{join, join_at_once};
pub use teardown::{Busy, teardown};
pub use workplace::{AssemblyId, InvalidId, Workplace};
