//! Settings that are accepted before their feature exists, and what the log says about them.

use crate::config::{LayerSettings, Settings};

/// A setting that has no effect yet.
struct Pending {
    setting: &'static str,
    is_set: fn(&LayerSettings) -> bool,
    consequence: &'static str,
}

const PENDING: [Pending; 1] = [Pending {
    setting: "mkfs_options",
    is_set: |layers| !layers.mkfs_options.is_empty(),
    consequence: "layers are built by the native builder, without these options",
}];

/// Tells the operator which settings this release accepts without acting on them.
pub(super) fn report(settings: &Settings) {
    for pending in PENDING.iter().filter(|pending| (pending.is_set)(&settings.layers)) {
        tracing::warn!(setting = pending.setting, "not implemented yet: {}", pending.consequence);
    }
}
