//! What this project's own programs ask of the servers of a node: of containerd, and of the daemon.
//!
//! Every call blocks, so whoever asks needs no runtime of its own.
//!
//! * [`connection`]: one server, and who answers there.
//! * [`namespace`]: a namespace of containerd. In it [`images`], [`content`], and the [`lease`] that keeps what is made.
//! * [`plugins`]: what a containerd is, and what it consists of.
//! * [`daemon`]: whether the daemon serves a profile.

pub mod connection;
pub mod content;
pub mod daemon;
pub mod images;
pub mod lease;
pub mod namespace;
pub mod plugins;

pub use connection::{Connection, Error};
pub use lease::Lease;
pub use namespace::Namespace;
