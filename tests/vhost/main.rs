//! Disks over vhost-user, with a driver that knows nothing of us, and without a virtual machine.
//!
//! * `requests`: every kind of request, in queues of all sizes. * `connections`: monitors that go, and come back.
//! * `large`: reads that several threads carry out. * `checked`: layers whose blocks are checked when they are read.
//! * `metadata`: the same of what layers are merged into.
//! * `refused`: what is no disk.

// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod checked;
mod connections;
#[path = "../helpers/vhost_driver.rs"]
mod driver;
#[path = "../helpers/vhost_export.rs"]
mod export;
mod large;
mod metadata;
mod refused;
mod requests;
