//! Settings that are accepted before their feature exists, and what the log says about them.

use crate::config::{LayerSettings, Settings};

/// A setting that has no effect yet.
struct Pending {
    setting: &'static str,
    is_set: fn(&LayerSettings) -> bool,
    consequence: &'static str,
}

const PENDING: [Pending; 2] = [
    Pending {
        setting: "enable_fsverity",
        is_set: |layers| layers.fsverity,
        consequence: "layers are not sealed with fs-verity",
    },
    Pending {
        setting: "set_immutable",
        is_set: |layers| layers.immutable,
        consequence: "finished layers do not get the immutable attribute",
    },
];

/// Tells the operator which settings this release accepts without acting on them.
pub(super) fn report(settings: &Settings) {
    for pending in PENDING.iter().filter(|pending| (pending.is_set)(&settings.layers)) {
        tracing::warn!(setting = pending.setting, "not implemented yet: {}", pending.consequence);
    }
}
