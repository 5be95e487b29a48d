//! Claims, and layers that snapshots share.

use std::fs;
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::thread;

use super::host::{BLOCK, DIR, Host, Layer, extraction_labels, kind};
use super::plan::upper_of;
use crate::error::{Classify, Kind as Failure};
use crate::expose::mount::Mount;
use crate::image::digest::Digest;
use crate::layer::{LayerKey, Recipe};
use crate::snapshot::model::DIFF_ID_LABEL;
use crate::snapshot::{Error, Labels};

fn mount(fstype: &str, source: &str, options: &[&str]) -> Mount {
    let options = options.iter().map(|option| (*option).to_owned()).collect();
    Mount { fstype: fstype.to_owned(), source: source.to_owned(), target: String::new(), options }
}

#[test]
fn every_active_plan_is_claimed() {
    let host = Host::new();
    let s = &host.snapshotter;
    for profile in [DIR, BLOCK] {
        host.commit_layer(profile, "a", None, &Layer::new("a"));
        host.commit_layer(profile, "b", Some("a"), &Layer::new("b"));
        for (index, parent) in [None, Some("a"), Some("b")].into_iter().enumerate() {
            for labels in [Labels::new(), extraction_labels("x")] {
                let key = format!("{index} {labels:?}");
                let mounts = s.prepare(profile, &key, parent, labels).unwrap();
                let claim = host.claim(&mounts);
                host.build(&claim, &Layer::new("c")).unwrap();
                drop(claim);
                s.commit(profile, &format!("{key} committed"), &key, None, Labels::new()).unwrap();
            }
        }
    }
    host.assert_consistent();
    assert_eq!(host.on_disk().1.len(), 3);
}

#[test]
fn mounts_of_others_are_not_claimed() {
    let host = Host::new();
    let root = host.root.path().to_str().unwrap();
    for mounts in [
        vec![],
        vec![mount("bind", "/var/lib/other/snapshots/1/fs", &["rw"])],
        vec![mount("overlay", "overlay", &["upperdir=/x/fs", "lowerdir=/y"])],
        vec![mount("bind", &format!("{root}-other/snapshots/1/fs"), &[])],
        vec![mount("bind", &format!("{root}/snapshots/1/fs"), &[])],
        vec![mount("bind", &format!("{root}/snapshots/{}/fs/etc", "0".repeat(32)), &[])],
        vec![mount("bind", &format!("{root}/snapshots/{}/../x/fs", "0".repeat(32)), &[])],
    ] {
        assert!(host.snapshotter.claim(&mounts).unwrap().is_none(), "{mounts:?}");
    }
}

#[test]
fn our_mounts_that_cannot_take_a_layer_are_refused() {
    let host = Host::new();
    let s = &host.snapshotter;
    host.commit_layer(DIR, "a", None, &Layer::new("a"));
    host.commit_layer(DIR, "b", Some("a"), &Layer::new("b"));
    let claim = |mounts: &[Mount]| s.claim(mounts).unwrap_err();
    for parent in [None, Some("a"), Some("b")] {
        let view = s.view(DIR, &format!("{parent:?}"), parent, Labels::new()).unwrap();
        assert!(matches!(claim(&view), Error::ReadOnlyMounts));
    }

    let one = s.prepare(DIR, "one", None, Labels::new()).unwrap();
    let two = s.prepare(DIR, "two", None, Labels::new()).unwrap();
    assert!(matches!(claim(&[one.clone(), two.clone()].concat()), Error::SeveralSnapshots));
    fs::write(upper_of(&one).join("file"), "x").unwrap();
    assert!(matches!(claim(&one), Error::Written { .. }));
    s.remove(DIR, "two").unwrap();
    assert!(matches!(claim(&two), Error::Removed { .. }));

    let mounts = host.extraction(DIR, "e", "x");
    host.build(&host.claim(&mounts), &Layer::new("c")).unwrap();
    s.commit(DIR, "c", "e", None, Labels::new()).unwrap();
    assert!(matches!(claim(&mounts), Error::NotActive { .. }));
}

#[test]
fn a_snapshot_is_claimed_by_one_at_a_time() {
    let host = Host::new();
    let mounts = host.extraction(DIR, "k", "x");
    let other = host.extraction(DIR, "other", "x");
    let first = host.claim(&mounts);
    drop(host.claim(&other));
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        let second = sender.clone();
        scope.spawn(|| {
            let _claim = host.claim(&mounts);
            second.send("second").unwrap();
            drop(second);
        });
        sender.send("first").unwrap();
        drop(first);
    });
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), ["first", "second"]);
}

#[test]
fn a_layer_is_stored_once_for_all_snapshots_and_profiles() {
    let host = Host::new();
    let s = &host.snapshotter;
    let layer = Layer::new("a");
    host.commit_layer(DIR, "a", None, &layer);
    let record = s.layer_of_blob(&layer.blob, &Recipe::Native).unwrap();
    assert_eq!(s.layer_of_diff(&layer.diff_id, &Recipe::Native), Some(record.clone()));
    assert_eq!(record.content.diff_id, layer.diff_id);

    let other_blob = Digest::of(b"the same tar, compressed otherwise");
    let mounts = host.extraction(BLOCK, "e", "x");
    let claim = host.claim(&mounts);
    let shared = s.attach_existing(&claim, &Recipe::Native, &layer.diff_id, &other_blob).unwrap().unwrap();
    assert_eq!(shared.content.blobs.len(), 2);
    assert_eq!(s.layer_of_blob(&other_blob, &Recipe::Native), Some(shared.clone()));
    drop(claim);
    s.commit(BLOCK, "a", "e", None, Labels::new()).unwrap();
    assert_eq!(host.on_disk().1.len(), 1);

    s.remove(DIR, "a").unwrap();
    assert_eq!(
        s.layer_of_diff(&layer.diff_id, &Recipe::Native),
        Some(shared.clone()),
        "the other profile has it"
    );
    host.assert_consistent();
    let host = host.restart();
    assert_eq!(host.snapshotter.layer_of_blob(&other_blob, &Recipe::Native), Some(shared));
    host.snapshotter.remove(BLOCK, "a").unwrap();
    assert_eq!(host.snapshotter.layer_of_diff(&layer.diff_id, &Recipe::Native), None);
    assert_eq!(host.snapshotter.layer_of_blob(&other_blob, &Recipe::Native), None);
    host.assert_consistent();
    assert!(host.on_disk().1.is_empty());
}

#[test]
fn a_layer_that_is_not_there_has_to_be_built() {
    let host = Host::new();
    let mounts = host.extraction(DIR, "k", "x");
    let layer = Layer::new("a");
    let result =
        host.snapshotter.attach_existing(&host.claim(&mounts), &Recipe::Native, &layer.diff_id, &layer.blob);
    assert_eq!(result.unwrap(), None);
}

#[test]
fn a_second_layer_replaces_the_first() {
    let host = Host::new();
    let mounts = host.extraction(DIR, "k", "x");
    let claim = host.claim(&mounts);
    host.build(&claim, &Layer::new("a")).unwrap();
    host.build(&claim, &Layer::new("b")).unwrap();
    assert_eq!(host.snapshotter.layer_of_diff(&Layer::new("a").diff_id, &Recipe::Native), None);
    drop(claim);
    host.assert_consistent();
    assert_eq!(host.on_disk().1, [Layer::new("b").key()].into());
}

#[test]
fn a_removed_active_takes_its_layer_along() {
    let host = Host::new();
    let mounts = host.extraction(DIR, "k", "x");
    host.build(&host.claim(&mounts), &Layer::new("a")).unwrap();
    host.snapshotter.remove(DIR, "k").unwrap();
    host.assert_consistent();
    assert!(host.on_disk().1.is_empty());
}

#[test]
fn a_snapshot_that_is_removed_meanwhile_gets_no_layer_and_nothing_stays() {
    let host = Host::new();
    let mounts = host.extraction(DIR, "k", "x");
    let claim = host.claim(&mounts);
    host.snapshotter.remove(DIR, "k").unwrap();
    let layer = Layer::new("a");
    assert!(matches!(host.build(&claim, &layer), Err(Error::Removed { .. })));
    let existing = host.snapshotter.attach_existing(&claim, &Recipe::Native, &layer.diff_id, &layer.blob);
    assert!(existing.unwrap().is_none());
    assert_eq!(host.snapshotter.diff_id_hint(&claim), None);
    host.assert_consistent();
}

#[test]
fn a_record_that_does_not_fit_its_file_or_its_key_is_refused() {
    let host = Host::new();
    let mounts = host.extraction(DIR, "k", "x");
    let claim = host.claim(&mounts);
    let layer = Layer::new("a");
    let attach = |record| {
        let staging = host.snapshotter.staging().unwrap();
        fs::write(staging.layer_path(), &layer.image).unwrap();
        host.snapshotter.attach_built(&claim, staging, record)
    };
    let mut short = layer.record();
    short.image_bytes += 1;
    assert!(attach(short).is_err());
    let mut foreign = layer.record();
    foreign.key = LayerKey::new(1, &Digest::of(b"other"));
    assert!(matches!(attach(foreign), Err(Error::InconsistentLayer { .. })));
    host.assert_consistent();
    attach(layer.record()).unwrap();
}

#[test]
fn a_colliding_key_is_not_taken_for_the_same_layer() {
    let host = Host::new();
    let layer = Layer::new("a");
    host.commit_layer(DIR, "a", None, &layer);
    let mut bytes = *layer.diff_id.as_bytes();
    bytes[31] ^= 1;
    let twin = Layer { diff_id: Digest::from_bytes(bytes), ..Layer::new("twin") };
    assert_eq!(twin.key(), layer.key());
    let mounts = host.extraction(DIR, "k", "x");
    let claim = host.claim(&mounts);
    assert_eq!(host.snapshotter.layer_of_diff(&twin.diff_id, &Recipe::Native), None);
    assert_eq!(kind(host.build(&claim, &twin)), Failure::DataLoss);
    assert_eq!(
        kind(host.snapshotter.attach_existing(&claim, &Recipe::Native, &twin.diff_id, &twin.blob)),
        Failure::DataLoss
    );
    assert_eq!(fs::read(host.path(&format!("layers/{}/layer.erofs", layer.key()))).unwrap(), layer.image);
    host.assert_consistent();
}

#[test]
fn a_damaged_layer_is_built_again_for_all_that_use_it() {
    let host = Host::new();
    let layer = Layer::new("a");
    host.commit_layer(DIR, "a", None, &layer);
    let image = host.path(&format!("layers/{}/layer.erofs", layer.key()));
    fs::write(&image, "short").unwrap();
    let mounts = host.extraction(DIR, "k", "x");
    let claim = host.claim(&mounts);
    let existing = host.snapshotter.attach_existing(&claim, &Recipe::Native, &layer.diff_id, &layer.blob);
    assert!(existing.unwrap().is_none());
    host.build(&claim, &layer).unwrap();
    assert_eq!(fs::read(&image).unwrap(), layer.image);
    host.assert_consistent();
}

#[test]
fn a_layer_that_went_with_the_damaged_one_that_it_replaced_is_not_recorded() {
    let host = Host::new();
    let s = &host.snapshotter;
    let layer = Layer::new("a");
    host.commit_layer(DIR, "old", None, &layer);
    fs::write(host.path("layers").join(layer.key()).join("layer.erofs"), "cut off").unwrap();

    let mounts = host.extraction(DIR, "key", "new");
    let claim = host.claim(&mounts);
    let staging = s.staging().unwrap();
    fs::write(staging.layer_path(), &layer.image).unwrap();
    let placed = s.inner.ledger.place(staging, layer.record()).unwrap();
    s.remove(DIR, "old").unwrap();
    let key = placed.key.clone();
    let recorded = s.inner.ledger.record_placed(placed, |index| {
        let record = index.by_id(claim.snapshot()).unwrap();
        Ok(Arc::new(record.with_layer(key)?))
    });
    assert_eq!(kind(recorded), Failure::Unavailable);

    host.build(&claim, &layer).unwrap();
    drop(claim);
    s.commit(DIR, "new", "key", None, extraction_labels("new")).unwrap();
    host.assert_consistent();
}

#[test]
fn a_layer_whose_file_is_damaged_or_gone_counts_as_none() {
    let host = Host::new();
    let s = &host.snapshotter;
    let layer = Layer::new("a");
    host.commit_layer(DIR, "a", None, &layer);
    let image = host.path(&format!("layers/{}/layer.erofs", layer.key()));
    let found = || {
        (
            s.layer_of_blob(&layer.blob, &Recipe::Native).is_some(),
            s.layer_of_diff(&layer.diff_id, &Recipe::Native).is_some(),
        )
    };
    assert_eq!(found(), (true, true));
    fs::write(&image, "short").unwrap();
    assert_eq!(found(), (false, false));
    fs::remove_file(&image).unwrap();
    assert_eq!(found(), (false, false));
    host.commit_layer(BLOCK, "a", None, &layer);
    assert_eq!(found(), (true, true));
    host.assert_consistent();
}

#[test]
fn what_was_written_beside_a_layer_is_neither_committed_nor_lost() {
    let host = Host::new();
    let s = &host.snapshotter;
    for labels in [Labels::new(), extraction_labels("x")] {
        let key = format!("{labels:?}");
        let mounts = s.prepare(DIR, &key, None, labels).unwrap();
        host.build(&host.claim(&mounts), &Layer::new("a")).unwrap();
        let id = s.record(DIR, &key).unwrap().id;
        let file = host.path(&format!("snapshots/{id}/fs/file"));
        fs::write(&file, "precious").unwrap();
        assert!(matches!(s.commit(DIR, "c", &key, None, Labels::new()), Err(Error::Written { .. })));
        assert!(matches!(s.claim(&mounts), Err(Error::Written { .. })));
        host.snapshotter.cleanup().unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"precious");
        fs::remove_file(&file).unwrap();
        s.commit(DIR, &format!("committed {key}"), &key, None, Labels::new()).unwrap();
    }
    host.assert_consistent();
}

#[test]
fn a_writable_block_that_was_mounted_is_neither_committed_nor_given_a_layer() {
    let host = Host::new();
    let s = &host.snapshotter;
    let mounts = s.prepare(BLOCK, "k", None, Labels::new()).unwrap();
    host.build(&host.claim(&mounts), &Layer::new("a")).unwrap();
    // What the kernel does at a mount, by another hand; tests/block has the kernel do it.
    let mounted = Command::new("tune2fs").args(["-C", "1", &mounts[0].source]).output().unwrap();
    assert!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
    let error = s.commit(BLOCK, "c", "k", None, Labels::new()).unwrap_err();
    assert_eq!(error.kind(), Failure::FailedPrecondition);
    assert!(error.to_string().contains("mounted writable"), "{error}");
    assert!(matches!(s.claim(&mounts), Err(Error::Written { .. })));
    s.cleanup().unwrap();
    assert!(fs::exists(&mounts[0].source).unwrap());
    s.remove(BLOCK, "k").unwrap();
    host.assert_consistent();
}

#[test]
fn the_announced_digest_is_a_hint() {
    let host = Host::new();
    let digest = Digest::of(b"tar");
    for (key, value, hint) in
        [("good", digest.to_string(), Some(digest)), ("bad", "sha256:x".to_owned(), None)]
    {
        let mut labels = extraction_labels("x");
        labels.insert(DIFF_ID_LABEL.to_owned(), value);
        let mounts = host.snapshotter.prepare(DIR, key, None, labels).unwrap();
        assert_eq!(host.snapshotter.diff_id_hint(&host.claim(&mounts)), hint);
    }
}

#[test]
fn many_that_publish_and_drop_one_layer_at_once_leave_it_whole() {
    let host = Host::new();
    let layer = Layer::new("contended");
    thread::scope(|scope| {
        for worker in 0..6 {
            let (host, layer) = (&host, layer.clone());
            scope.spawn(move || {
                for round in 0..10 {
                    let key = format!("{worker} {round}");
                    let mounts = host.extraction(DIR, &key, "x");
                    let claim = host.claim(&mounts);
                    host.build(&claim, &layer).unwrap();
                    let image = host.path(&format!("layers/{}/layer.erofs", layer.key()));
                    assert_eq!(fs::read(image).unwrap(), layer.image, "{key}");
                    drop(claim);
                    host.snapshotter.remove(DIR, &key).unwrap();
                }
            });
        }
    });
    host.assert_consistent();
    assert!(host.on_disk().1.is_empty());
}
