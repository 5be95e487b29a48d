//! Requests that are dropped leave nothing, and what they held is free again.

use std::time::Duration;

use nexuserofs::image::digest::Digest;
use nexuserofs::layer::Recipe;

use crate::store::Fault;
use crate::{Bench, GZIP, PROFILE, gzip, tar};

/// Drops an Apply of `blob` after `patience`, and expects that a later one succeeds.
async fn drop_and_retry(blob: &[u8], tar: &[u8], fault: Fault, patience: Duration) {
    let bench = Bench::new().await;
    let mounts = bench.extraction("layer", None);
    bench.store.put(blob, fault);
    let request = bench.request(GZIP, blob, &mounts);
    let outcome = tokio::time::timeout(patience, bench.differ.apply(request)).await;
    if outcome.is_err() {
        bench.settled().await;
        // A request that is dropped at its very end may have attached its layer already.
        let attached = bench.snapshots.layer_of_diff(&Digest::of(tar), &Recipe::Native).is_some();
        assert_eq!(bench.layers().len(), usize::from(attached), "{fault:?} after {patience:?}");
    }
    bench.store.put(blob, Fault::None);
    assert_eq!(
        bench.apply(blob, &mounts).await.unwrap().digest,
        Digest::of(tar),
        "{fault:?} after {patience:?}"
    );
    bench.snapshots.remove(PROFILE, "layer").unwrap();
    bench.snapshots.cleanup().unwrap();
    assert!(bench.layers().is_empty(), "{fault:?} after {patience:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_waits_for_a_silent_store_can_be_dropped() {
    let tar = tar(1, 5 << 20);
    let blob = gzip(&tar);
    for sent in [0, 1 << 20, 4 << 20] {
        drop_and_retry(&blob, &tar, Fault::StallsAfter(sent), Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_can_be_dropped_at_any_moment() {
    let tar = tar(1, 8 << 20);
    let blob = gzip(&tar);
    for milliseconds in [0, 1, 2, 4, 8, 16, 32, 64] {
        drop_and_retry(&blob, &tar, Fault::NoDirectory, Duration::from_millis(milliseconds)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_behind_a_dropped_request_goes_on() {
    let tar = tar(1, 5 << 20);
    let blob = gzip(&tar);
    let bench = Bench::new().await;
    bench.store.put(&blob, Fault::StallsAfter(1 << 20));
    let (first, second) = (bench.extraction("first", None), bench.extraction("second", None));
    let request = bench.request(GZIP, &blob, &first);
    let patience = Duration::from_millis(200);
    let dropped = async {
        let outcome = tokio::time::timeout(patience, bench.differ.apply(request)).await;
        assert!(outcome.is_err());
        bench.store.put(&blob, Fault::None);
    };
    let waiting = async {
        tokio::time::sleep(patience / 2).await;
        bench.apply(&blob, &second).await
    };
    let ((), applied) = tokio::join!(dropped, waiting);
    // The second may have opened the silent stream before the store recovered only if it did not
    // wait for its turn.
    assert_eq!(applied.unwrap().digest, Digest::of(&tar));
}
