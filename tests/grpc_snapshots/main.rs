//! The snapshots service over a Unix socket, on a real snapshotter in a temporary root: what containerd is
//! answered, and with which codes. The codes are those of containerd's own snapshotters, which its test suite
//! for snapshotters (`core/snapshots/testsuite`) asks for.

mod making;
mod records;
mod server;
