//! The services over a Unix socket, on a real snapshotter in a temporary root: what containerd is answered,
//! and with which codes. The codes are those of containerd's own plugins, which its test suite for snapshotters
//! (`core/snapshots/testsuite`) and its chain of differs (`plugins/services/diff`) rely on.
//!
//! No containerd answers here, so that no layer is unpacked; `integration/` does that.

// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cache_hits;
mod differ;
mod making;
mod records;
mod server;
