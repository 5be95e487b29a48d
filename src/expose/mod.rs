//! What containerd is given for a snapshot: a mount plan, and the files that the plan names.
//!
//! * [`mount`]: one entry of a plan.
//! * [`plan`]: the entries that a snapshot gets, as a pure function of its record.
//! * [`block`]: the ext4 file that a snapshot writes to.

pub mod block;
pub mod mount;
pub mod plan;
