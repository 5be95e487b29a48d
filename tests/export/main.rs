//! Disks of snapshots over vhost-user: the process that serves them, from the first plan to the snapshot's end, with the
//! crate virtio-driver in the place of a virtual machine.

// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used)]
// Other tests need more of the helpers.
#![allow(dead_code)]

#[path = "../tar_semantics/archive.rs"]
mod archive;
mod by_hand;
mod checked;
mod commit;
mod confined;
#[path = "../helpers/vhost_driver.rs"]
mod driver;
mod lifetime;
mod node;
#[path = "../helpers/skipped.rs"]
mod skipped;
