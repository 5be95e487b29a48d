//! The test bed: real components, started privately, watched and taken down again.
//!
//! What a test on real components needs comes in three parts, each made once and kept in the user's cache folder:
//!
//! * [`machine`] and [`host`]: packages of the machine, a Debian root with current container tools, and
//!   containerd built from the Go module in `containerd-tools/`;
//! * [`images`]: real images, as OCI layouts;
//! * [`stage`]: a program runs itself again inside that root, as the first process of mount and process
//!   namespaces of its own. Whatever it starts or mounts there ends with it.
//!
//! What needs another kernel runs in a virtual machine with the same parts in it: [`guest`]. Disks behind vhost-user
//! sockets need none: [`vhost`].
//!
//! [`bed`] goes that whole way, and [`harness`] is main of the test programs. Inside, [`node`] starts a registry, containerd and our daemon, [`tree`] compares file trees, and
//! [`leaks`] finds what was left behind.

pub mod bed;
pub mod cache;
pub mod cargo;
pub mod client;
pub mod command;
pub mod conformance;
pub mod digest;
#[cfg(test)]
mod documents;
pub mod environment;
pub mod gotest;
pub mod guest;
pub mod harness;
pub mod host;
pub mod images;
pub mod leaks;
pub mod machine;
pub mod node;
pub mod own_tests;
pub mod progress;
pub mod random;
pub mod soak;
pub mod stage;
pub mod tree;
pub mod unpack;
pub mod vhost;
