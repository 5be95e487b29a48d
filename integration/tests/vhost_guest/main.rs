//! Disks behind vhost-user sockets, seen by guests: Linux 6.12 behind QEMU's vhost-user-blk-pci.
//!
//! * `images`: disks of 1 to 128 layers, against the overlay of the same layers.
//! * `block`: the writable block: written, trimmed, flushed; then the guest's power is cut.
//! * `reconnect`: the exporter is killed under a running guest.

// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod block;
mod images;
mod layers;
#[path = "../../../tests/helpers/merged_chain.rs"]
mod merged_chain;
mod mounted;
mod reconnect;
mod signal;

use std::process::ExitCode;

use anyhow::Result;
use nexuserofs_integration::bed::Profile;
use nexuserofs_integration::guest::scenario::{self, Scenario};

const SCENARIOS: &[Scenario] = &[images::SCENARIO, block::SCENARIO, reconnect::SCENARIO];

fn main() -> Result<ExitCode> {
    scenario::main(Profile::Debug, SCENARIOS)
}
