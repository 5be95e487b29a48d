//! What containerd is given for a snapshot: a mount plan, and the files that the plan names.

pub mod mount;
