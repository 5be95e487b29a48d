//! One entry of a mount plan.

use serde::{Deserialize, Serialize};

/// A mount as containerd understands it (`types.Mount`), before it is protobuf.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// File system type, with containerd's transform prefixes (`format/overlay`).
    pub fstype: String,
    /// What is mounted: a path, a template, or the type's name where nothing is.
    pub source: String,
    /// Directory below the mount point; always empty in our plans.
    pub target: String,
    /// Options, in the order in which they are applied.
    pub options: Vec<String>,
}
