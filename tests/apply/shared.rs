//! A layer is built once.

use std::fs;

use nexuserofs::image::digest::Digest;
use nexuserofs::layer::Recipe;

use crate::store::Fault;
use crate::{Bench, gzip, tar};

/// A second blob of the same tar.
fn gzip_otherwise(tar: &[u8]) -> Vec<u8> {
    let (head, rest) = tar.split_at(512);
    [gzip(head), gzip(rest)].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_for_one_blob_read_it_once() {
    let tar = tar(1, 8 << 20);
    let blob = gzip(&tar);
    let bench = Bench::new().await;
    bench.store.put(&blob, Fault::NoDirectory);
    let plans = ["a", "b", "c"].map(|key| bench.extraction(key, None));
    let [a, b, c] = &plans;
    let (a, b, c) = tokio::join!(bench.apply(&blob, a), bench.apply(&blob, b), bench.apply(&blob, c));
    for applied in [a, b, c] {
        assert_eq!(applied.unwrap().digest, Digest::of(&tar));
    }
    assert_eq!(bench.layers().len(), 1);
    for key in ["a", "b", "c"] {
        bench.commit(key);
    }
    bench.settled().await;
    assert_eq!(bench.layers().len(), 1);
    assert_eq!(bench.store.reads(), 1);
    assert_eq!(
        bench.snapshots.layer_of_blob(&Digest::of(&blob), &Recipe::Native).unwrap().content.diff_id,
        Digest::of(&tar)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_blob_of_an_announced_layer_is_checked_and_nothing_is_written() {
    let tar = tar(1, 2 << 20);
    let (one, other) = (gzip(&tar), gzip_otherwise(&tar));
    let bench = Bench::new().await;
    bench.store.put(&one, Fault::None);
    bench.store.put(&other, Fault::None);
    bench.apply(&one, &bench.extraction("one", None)).await.unwrap();
    let built = fs::metadata(bench.layers()[0].join("layer.erofs")).unwrap().modified().unwrap();
    let mounts = bench.extraction("other", Some(Digest::of(&tar)));
    assert_eq!(bench.apply(&other, &mounts).await.unwrap().digest, Digest::of(&tar));
    assert_eq!(fs::metadata(bench.layers()[0].join("layer.erofs")).unwrap().modified().unwrap(), built);
    let known = bench.snapshots.layer_of_diff(&Digest::of(&tar), &Recipe::Native).unwrap().content.blobs;
    assert_eq!(known, [Digest::of(&one), Digest::of(&other)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_whose_file_is_gone_or_cut_is_built_again() {
    let tar = tar(1, 2 << 20);
    let blob = gzip(&tar);
    for announced in [None, Some(Digest::of(&tar))] {
        let bench = Bench::new().await;
        bench.store.put(&blob, Fault::None);
        bench.apply(&blob, &bench.extraction("first", announced)).await.unwrap();
        bench.commit("first");
        let file = bench.layers()[0].join("layer.erofs");
        let whole = fs::read(&file).unwrap();
        for (key, damage) in [("cut", Some(4096)), ("gone", None)] {
            match damage {
                Some(length) => {
                    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(length).unwrap()
                }
                None => fs::remove_file(&file).unwrap(),
            }
            bench.apply(&blob, &bench.extraction(key, announced)).await.unwrap();
            assert!(fs::read(&file).unwrap() == whole, "{key}, announced {announced:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_that_announce_each_others_blobs_do_not_wait_for_each_other() {
    let (x, y) = (gzip(&tar(1, 1 << 20)), gzip(&tar(2, 1 << 20)));
    for _ in 0..20 {
        let bench = Bench::new().await;
        bench.store.put(&x, Fault::None);
        bench.store.put(&y, Fault::None);
        let a = bench.extraction("a", Some(Digest::of(&y)));
        let b = bench.extraction("b", Some(Digest::of(&x)));
        let (a, b) = tokio::join!(bench.apply(&x, &a), bench.apply(&y, &b));
        assert_eq!(
            (a.unwrap().digest, b.unwrap().digest),
            (Digest::of(&tar(1, 1 << 20)), Digest::of(&tar(2, 1 << 20)))
        );
    }
}
