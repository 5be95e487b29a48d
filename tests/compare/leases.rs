//! What keeps a new blob, and what is written on it.

use nexuserofs::diff::CompareRequest;

use crate::archive::Entry;
use crate::{Bench, LEASE, UNCOMPRESSED, request};

fn bench() -> (Bench, CompareRequest) {
    let bench = Bench::new();
    bench.layer("layer", None, &[Entry::file("file", "data")]);
    let right = bench.view("right", Some("layer"));
    (bench, request(vec![], right))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_kept_by_the_callers_lease() {
    let (bench, request) = bench();
    let compared = bench.compare(request).await.unwrap();
    let state = bench.store.state.lock().unwrap();
    assert_eq!(state.leases.len(), 1, "no lease was made");
    assert!(state.leases[LEASE].blobs.contains(&compared.digest.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_lease_one_is_made_that_ends_by_itself() {
    let (bench, request) = bench();
    let compared = bench.compare(CompareRequest { lease: None, ..request }).await.unwrap();
    let state = bench.store.state.lock().unwrap();
    let lease = state.leases.iter().find(|(id, _)| *id != LEASE).unwrap().1;
    assert!(lease.blobs.contains(&compared.digest.to_string()));
    let expires: prost_types::Timestamp = lease.labels["containerd.io/gc.expire"].parse().unwrap();
    let expires = std::time::SystemTime::try_from(expires).unwrap();
    let left = expires.duration_since(std::time::SystemTime::now()).unwrap().as_secs();
    assert!((3000..=3600).contains(&left), "{left} seconds");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_is_there_gets_labels_and_lease() {
    let (bench, request) = bench();
    let compared = bench.compare(request.clone()).await.unwrap();
    let digest = compared.digest.to_string();
    {
        let mut state = bench.store.state.lock().unwrap();
        state.blobs.get_mut(&digest).unwrap().labels = [("kept".to_owned(), "as it is".to_owned())].into();
        state.leases.get_mut(LEASE).unwrap().blobs.clear();
    }
    let labels = [("wanted".to_owned(), "by the caller".to_owned())].into();
    assert_eq!(bench.compare(CompareRequest { labels, ..request }).await.unwrap().digest, compared.digest);
    let state = bench.store.state.lock().unwrap();
    let labels = &state.blobs[&digest].labels;
    assert_eq!(labels["kept"], "as it is");
    assert_eq!(labels["wanted"], "by the caller");
    assert_eq!(labels[UNCOMPRESSED], digest);
    assert!(state.leases[LEASE].blobs.contains(&digest));
    assert!(state.uploads.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_upload_of_the_name_left_is_replaced() {
    let (bench, request) = bench();
    bench.store.state.lock().unwrap().uploads.insert("ref".to_owned(), b"leftovers".to_vec());
    bench.difference(CompareRequest { reference: "ref".to_owned(), ..request }).await;
    assert!(bench.store.state.lock().unwrap().uploads.is_empty());
}
