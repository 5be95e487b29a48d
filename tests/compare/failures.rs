//! Comparisons that fail: they say why, and leave no upload.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use nexuserofs::error::{Classify, Kind};

use crate::store::Fault;
use crate::{Bench, EROFS, request};

/// A snapshot with a file that does not compress.
fn large(bench: &Bench) -> Vec<nexuserofs::expose::mount::Mount> {
    let (right, upper) = bench.active("active", None);
    fs::write(upper.join("file"), vec![1; 20 << 20]).unwrap();
    right
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_is_the_reason_and_keeps_nothing() {
    let bench = Bench::new();
    let right = large(&bench);
    bench.store.state.lock().unwrap().fault = Fault::BreaksAfter(5 << 20);
    let error = bench.compare(request(vec![], right.clone())).await.unwrap_err();
    assert_eq!(error.kind(), Kind::ResourceExhausted);
    assert!(error.to_string().contains("the disk is full"), "{error}");
    bench.settled().await;
    bench.store.state.lock().unwrap().fault = Fault::None;
    bench.difference(request(vec![], right)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_is_no_layer_is_the_reason_and_leaves_no_upload() {
    let bench = Bench::new();
    let (right, upper) = bench.active("active", None);
    fs::write(upper.join(".wh.file"), "").unwrap();
    for media_type in [crate::TAR, EROFS] {
        let request = nexuserofs::diff::CompareRequest {
            media_type: media_type.to_owned(),
            ..request(vec![], right.clone())
        };
        let error = bench.compare(request).await.unwrap_err();
        assert_eq!(error.kind(), Kind::FailedPrecondition);
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains(".wh.file"), "{source}");
        bench.settled().await;
    }
    assert!(bench.store.state.lock().unwrap().blobs.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_request_gives_its_upload_up() {
    let bench = Arc::new(Bench::new());
    let right = large(&bench);
    bench.store.state.lock().unwrap().fault = Fault::StallsAfter(3 << 20);
    let call = tokio::spawn({
        let (bench, request) = (Arc::clone(&bench), request(vec![], right.clone()));
        async move { bench.differ.compare(request).await.map(drop) }
    });
    let stalled = async {
        let is_stalled =
            || bench.store.state.lock().unwrap().uploads.values().any(|bytes| bytes.len() >= 3 << 20);
        while !is_stalled() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(crate::DEADLINE, stalled).await.unwrap();
    call.abort();
    bench.settled().await;
    // Its turn is over too: of two, one would not be left otherwise.
    bench.store.state.lock().unwrap().fault = Fault::None;
    bench.difference(request(vec![], right)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_containerd_that_is_not_there_is_unavailable() {
    let bench = Bench::new();
    let right = large(&bench);
    fs::remove_file(&bench.store.address).unwrap();
    let error = bench.compare(request(vec![], right)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.to_string().contains("--containerd-address"), "{error}");
}
