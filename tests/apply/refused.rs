//! Blobs that are not what they should be: refused with the reason, nothing left, and tried again.

use nexuserofs::diff::Error;
use nexuserofs::error::{Classify as _, Kind};
use nexuserofs::image::digest::Digest;

use crate::store::Fault;
use crate::{Bench, GZIP, NAMESPACE, gzip, tar};

const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// Asserts that an Apply was refused and left nothing.
pub(crate) async fn refused(bench: &Bench, error: &Error, kind: Kind, words: &str) {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    assert_eq!(error.kind(), kind, "{text}");
    assert!(text.contains(words), "{text}");
    bench.settled().await;
    assert!(bench.layers().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_fails_is_refused_and_the_next_try_succeeds() {
    let tar = tar(1, 5 << 20);
    let blob = gzip(&tar);
    for (fault, kind, words) in [
        (Fault::Damaged, Kind::DataLoss, "is damaged in the content store"),
        (Fault::BreaksAfter(3 << 20), Kind::Internal, "the disk fails"),
        (Fault::BreaksAfter(0), Kind::Internal, "the disk fails"),
    ] {
        let bench = Bench::new().await;
        let mounts = bench.extraction("layer", None);
        bench.store.put(&blob, fault);
        refused(&bench, &bench.apply(&blob, &mounts).await.unwrap_err(), kind, words).await;
        bench.store.put(&blob, Fault::None);
        assert_eq!(bench.apply(&blob, &mounts).await.unwrap().digest, Digest::of(&tar), "{fault:?}");
        bench.commit("layer");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intact_blob_with_wrong_content_is_the_fault_of_the_image() {
    let tar = tar(1, 1 << 20);
    let whole = gzip(&tar);
    let cases = [
        (GZIP, tar.clone(), "its media type says gzip, its content is not compressed"),
        (TAR, whole.clone(), "its media type says not compressed, its content is gzip"),
        (GZIP, whole[..whole.len() - 9].to_vec(), "cannot decompress gzip"),
        (GZIP, gzip(&tar[..300]), "cut short"),
        (GZIP, gzip(&tar[..1000]), "cut short"),
        (TAR, vec![7; 4096], "wrong header checksum"),
    ];
    for (media_type, blob, words) in cases {
        let bench = Bench::new().await;
        let mounts = bench.extraction("layer", None);
        bench.store.put(&blob, Fault::None);
        let error = bench.apply_as(media_type, &blob, &mounts).await.unwrap_err();
        refused(&bench, &error, Kind::InvalidArgument, words).await;
        bench.store.put(&whole, Fault::None);
        bench.apply(&whole, &mounts).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_is_not_reached_through_a_blob_that_holds_another() {
    let (good, bad) = (tar(1, 1 << 20), tar(2, 1 << 20));
    let bench = Bench::new().await;
    for blob in [gzip(&good), gzip(&bad)] {
        bench.store.put(&blob, Fault::None);
    }
    bench.apply(&gzip(&good), &bench.extraction("good", None)).await.unwrap();
    let lie = bench.extraction("lie", Some(Digest::of(&good)));
    let error = bench.apply(&gzip(&bad), &lie).await.unwrap_err();
    assert!(matches!(error, Error::WrongLayer { .. }), "{error}");
    assert_eq!(bench.layers().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_exists_is_not_given_to_who_cannot_see_the_blob() {
    let blob = gzip(&tar(1, 1 << 20));
    let bench = Bench::new().await;
    bench.store.put(&blob, Fault::None);
    bench.apply(&blob, &bench.extraction("mine", None)).await.unwrap();
    let mut request = bench.request(GZIP, &blob, &bench.extraction("theirs", None));
    assert_eq!(request.namespace, NAMESPACE);
    request.namespace = "other".to_owned();
    let error = bench.differ.apply(request).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn types_that_this_differ_does_not_unpack_and_sizes_that_lie_are_refused() {
    let blob = gzip(&tar(1, 1000));
    let bench = Bench::new().await;
    bench.store.put(&blob, Fault::None);
    let mounts = bench.extraction("layer", None);
    let error = bench.apply_as("application/vnd.erofs.layer.v1+gzip", &blob, &mounts).await.unwrap_err();
    refused(&bench, &error, Kind::InvalidArgument, "an EROFS layer is plain or +zstd").await;
    let mut request = bench.request(GZIP, &blob, &mounts);
    request.descriptor.size += 1;
    let error = bench.differ.apply(request).await.unwrap_err();
    refused(&bench, &error, Kind::InvalidArgument, "the image's manifest says").await;
}
