//! The process that serves a snapshot's disks to one virtual machine, and what the daemon does about it.
//!
//! It maps that guest's memory, so each virtual machine has one of its own, which can do nothing but serve: it has no
//! name of a file, no capability, and no system call that it does not need. It outlives the daemon.
//! `docs/block-devices.md` tells operators about it, `docs/decisions/export-process.md` why it is made like this.
//!
//! In the process:
//!
//! * [`specification`]: what it is told. `hand_over`: how, with the open files.
//! * [`process`]: from there to served disks. [`confinement`]: what is given up before.
//! * [`tally`]: what was done, in a file that others read.
//!
//! In the daemon:
//!
//! * [`Wanted`]: the disks of a snapshot. [`place`]: where sockets and the rest lie.
//! * `running`: a process, found by its lock and held by its descriptor. [`Exports`]: all of them, started again when they
//!   end.

pub mod confinement;
mod error;
mod exports;
mod hand_over;
pub mod place;
pub mod process;
mod running;
pub mod specification;
pub mod tally;
mod wanted;

pub use error::Error;
pub use exports::{Ending, Exports, Launch};
pub use place::{Place, Role};
pub use running::Running;
pub use wanted::{Image, Layer, Metadata, Wanted};
