//! The gRPC edge: requests in, domain calls, errors mapped to codes in one place.
//!
//! * [`snapshots`] and [`diff`]: containerd's services on top of [`crate::snapshot`] and [`crate::diff`].
//! * [`cache_hits`]: Prepare answered from a layer cache; `release`: which containerd asks.
//! * [`filter`]: containerd's filter grammar.
//! * [`status`]: errors into gRPC codes.
//! * `convert`: protobuf messages into domain values and back.
//! * `scope`: what a call's metadata says, the namespace and the lease.
//! * `trace`: one span for each call, and one line in the log at its end.
//! * `task`: where the domain's work runs.

pub mod cache_hits;
mod convert;
pub mod diff;
pub mod filter;
mod release;
mod scope;
pub mod snapshots;
pub mod status;
mod task;
mod trace;

/// The largest message that is sent or received, in bytes: containerd's own limit.
const MAX_MESSAGE_SIZE: usize = 16 << 20;
