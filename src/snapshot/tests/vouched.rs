//! Layers that are there before anybody unpacks them.

use std::fs;

use super::host::{DIR, Host, Layer, extraction_labels};
use crate::image::digest::Digest;
use crate::layer::{LayerKey, Recipe};
use crate::snapshot::model::EXTRACTION_LABEL;
use crate::snapshot::{Error, Kind, Vouched};

fn vouched(host: &Host, layer: &Layer) -> Vouched {
    let staging = host.snapshotter.staging().unwrap();
    fs::write(staging.layer_path(), &layer.image).unwrap();
    Vouched { staging, record: layer.record() }
}

#[test]
fn a_staged_snapshot_is_read_only_for_ever_and_becomes_its_layer() {
    let host = Host::new();
    host.commit_layer(DIR, "a", None, &Layer::new("a"));
    let layer = Layer::new("b");
    let offer = vouched(&host, &layer);
    let plan = host.snapshotter.prepare_staged(DIR, "k", Some("a"), extraction_labels("b"), offer).unwrap();
    let [only] = plan.as_slice() else { panic!("{plan:?}") };
    assert_eq!((only.fstype.as_str(), only.options.join(",").as_str()), ("erofs", "ro,loop"));
    assert!(only.source.contains(&layer.key()), "{only:?}");

    let host = host.restart();
    let s = &host.snapshotter;
    assert_eq!(s.mounts(DIR, "k").unwrap(), plan);
    assert_eq!(s.stat(DIR, "k").unwrap().kind, Kind::Active);
    assert!(matches!(s.claim(&plan), Err(Error::ReadOnlyMounts)), "nothing more can be applied");
    host.assert_consistent();

    s.commit(DIR, "b", "k", None, extraction_labels("b")).unwrap();
    let container = s.prepare(DIR, "container", Some("b"), Default::default()).unwrap();
    assert_eq!(container.iter().filter(|mount| mount.fstype == "erofs").count(), 2, "{container:?}");
    host.assert_consistent();
}

#[test]
fn a_vouched_layer_that_is_here_already_is_that_one_and_vouches_for_no_blob() {
    let host = Host::new();
    let s = &host.snapshotter;
    let (new, known) = (Layer::new("new"), Layer::new("known"));
    s.prepare_staged(DIR, "k", None, extraction_labels("new"), vouched(&host, &new)).unwrap();
    assert_eq!(s.layer_of_blob(&new.blob, &Recipe::Native), None, "nobody saw this blob give the layer");
    assert!(s.layer_of_diff(&new.diff_id, &Recipe::Native).is_some());

    host.commit_layer(DIR, "known", None, &known);
    let file = host.path("layers").join(known.key()).join("layer.erofs");
    let before = fs::metadata(&file).unwrap().modified().unwrap();
    s.prepare_staged(DIR, "l", None, extraction_labels("x"), vouched(&host, &known)).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), before);
    host.assert_consistent();
}

#[test]
fn a_layer_can_be_committed_before_its_client_knows() {
    let host = Host::new();
    let s = &host.snapshotter;
    host.commit_layer(DIR, "a", None, &Layer::new("a"));
    let offer = vouched(&host, &Layer::new("b"));
    s.prepare_committed(DIR, ("k", "k cached"), Some("a"), extraction_labels("b"), offer).unwrap();
    let found = s.stat(DIR, "k cached").unwrap();
    assert_eq!((found.kind, found.parent.as_deref()), (Kind::Committed, Some("a")));
    assert_eq!(found.labels[EXTRACTION_LABEL], "b");
    assert!(matches!(s.stat(DIR, "k"), Err(Error::NotFound { .. })));
    host.assert_consistent();
}

#[test]
fn what_cannot_be_taken_leaves_nothing() {
    let host = Host::new();
    let s = &host.snapshotter;
    let mut offer = vouched(&host, &Layer::new("b"));
    offer.record.key = LayerKey::new(1, &Digest::of(b"other"));
    s.prepare_staged(DIR, "k", None, extraction_labels("b"), offer).unwrap_err();
    let mut offer = vouched(&host, &Layer::new("b"));
    offer.record.image_bytes += 4096;
    s.prepare_committed(DIR, ("k", "k cached"), None, extraction_labels("b"), offer).unwrap_err();
    assert_eq!(s.list(DIR), []);
    host.assert_consistent();
}
