//! The rules of the containerd snapshot model, as a state machine that knows no protobuf type.
//!
//! [`Snapshotter`] is the way in. Below it:
//!
//! * [`model`]: what callers see of a snapshot; [`settings`]: what they may choose.
//! * `record`: a snapshot's states and the steps between them, without any input or output.
//! * `index`: all records in memory, with what is derived from them; `chain`: what a snapshot stands on.
//! * `ledger`: the one place where records change: memory, database and directories in step.
//! * `directory`: what lies on disk for a snapshot; `stock`: directories that lie ready; `keyed`: locks by key.
//! * `requested`: what the labels of a new snapshot ask for; `host`: what the daemon mounts for it;
//!   `exported`: what it has served to a virtual machine.
//! * `create`, `commit`, `layers`, `compare`: the operations that take more than a few lines.
//! * `merging`: the layers of an image become one, for profiles that want that.
//! * `publish`: a built layer gets its place, in one step with the snapshot that names it.
//! * `seal`: a layer is made of what a committed snapshot wrote; `sealing`: the threads that do it.
//! * `treeless`: why a layer has no dm-verity tree.
//! * `unshift`: owners of what a container with a user namespace wrote, as the container means them.
//! * `vouched`: layers that are there before anybody unpacks them.
//! * [`lookup`]: the layers of snapshots, for tools beside the daemon.
//! * `recovery`: from what a stop or a crash left to a consistent start.

mod chain;
mod commit;
mod compare;
mod create;
mod directory;
mod error;
mod exported;
mod host;
mod index;
mod keyed;
mod layers;
mod ledger;
pub mod lookup;
mod merging;
pub mod model;
mod publish;
mod record;
mod recovery;
mod requested;
mod seal;
mod sealing;
pub mod settings;
mod snapshotter;
mod stock;
#[cfg(test)]
mod tests;
mod treeless;
mod unshift;
mod vouched;

pub use compare::{OpenUpper, Shown, Written};
pub use error::Error;
pub use layers::Claim;
pub use model::{Info, Kind, LabelChange, Labels, Usage};
pub use recovery::{DATABASE_NAME, Missing, RecoveryReport};
pub use settings::{Profile, SnapshotSettings};
pub use snapshotter::Snapshotter;
pub use unshift::unshift;
pub use vouched::Vouched;
