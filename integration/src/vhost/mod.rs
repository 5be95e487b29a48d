//! Disks behind vhost-user sockets: a driver that is a guest without a virtual machine, and processes that export.
//!
//! * [`driver`]: the crate virtio-driver, which no one here wrote, as the front-end of a disk.
//! * [`exporter`]: a running process that exports a disk, and what it costs.
//! * [`storage_daemon`]: QEMU's qemu-storage-daemon, which exports the same bytes for comparison.
//! * [`ours`]: `nexuserofs export`.
//! * [`wire`]: single messages of the protocol, well-formed or not, for whoever is no honest front-end.

pub mod driver;
pub mod exporter;
pub mod ours;
pub mod storage_daemon;
pub mod wire;
