//! The log's line for a damaged block of a layer.

use crate::expose::host::corruption::{Corruption, REMEDY, Watch};
use crate::snapshot::Snapshotter;

/// Snapshots that a line names, at the most.
const NAMED: usize = 5;

/// Listens for damaged blocks as long as the value lives. None where the kernel cannot be heard, which the log
/// says.
pub(super) fn watch(snapshotter: &Snapshotter) -> Option<Watch> {
    let snapshotter = snapshotter.clone();
    let watch = Watch::start(move |corruption| report(&snapshotter, &corruption));
    watch
        .inspect_err(|error| {
            tracing::warn!(%error, "the kernel is not heard: damaged layers show in its own log only");
        })
        .ok()
}

fn report(snapshotter: &Snapshotter, corruption: &Corruption) {
    let Corruption { layer, device, part, block } = corruption;
    let users = snapshotter.users_of(layer);
    let named = users.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    tracing::error!(
        %layer, %device, %part, block, users = users.len(), snapshots = named,
        "a layer is not what its hash tree says: {REMEDY}"
    );
}
