//! What this project's own programs ask of the servers of a node: of containerd, and of the daemon.
//!
//! Every call blocks, so whoever asks needs no runtime of its own.
//!
//! * [`connection`]: one server, and who answers there.
//! * [`plugins`]: what a containerd is, and what it consists of.
//! * [`daemon`]: whether the daemon serves a profile.

pub mod connection;
pub mod daemon;
pub mod plugins;

pub use connection::{Connection, Error};
