//! What the log tells of each request.

use nexuserofs_proto::containerd::services::snapshots::v1::{
    CleanupRequest, CommitSnapshotRequest, ListSnapshotsRequest, MountsRequest, PrepareSnapshotRequest,
    RemoveSnapshotRequest, StatSnapshotRequest, UpdateSnapshotRequest, UsageRequest, ViewSnapshotRequest,
};

use crate::service::trace::{Effect, Traced};

/// Says for each request the method, whether it changes anything, and the snapshot that it is about.
macro_rules! traced {
    ($($request:ident: $method:literal, $effect:ident, $key:expr;)*) => {$(
        impl Traced for $request {
            const METHOD: &'static str = $method;
            const EFFECT: Effect = Effect::$effect;

            fn snapshotter(&self) -> Option<&str> {
                Some(&self.snapshotter)
            }

            fn key(&self) -> Option<&str> {
                let key: fn(&Self) -> Option<&str> = $key;
                key(self)
            }
        }
    )*};
}

traced! {
    PrepareSnapshotRequest: "Prepare", Change, |request| Some(&request.key);
    ViewSnapshotRequest: "View", Change, |request| Some(&request.key);
    MountsRequest: "Mounts", Query, |request| Some(&request.key);
    CommitSnapshotRequest: "Commit", Change, |request| Some(&request.key);
    RemoveSnapshotRequest: "Remove", Change, |request| Some(&request.key);
    StatSnapshotRequest: "Stat", Query, |request| Some(&request.key);
    UpdateSnapshotRequest: "Update", Change, |request| request.info.as_ref().map(|info| info.name.as_str());
    ListSnapshotsRequest: "List", Query, |_| None;
    UsageRequest: "Usage", Query, |request| Some(&request.key);
    CleanupRequest: "Cleanup", Change, |_| None;
}
