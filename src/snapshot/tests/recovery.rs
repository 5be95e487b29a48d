//! Starts on what someone or something did to the root directory.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::host::{BLOCK, DIR, Host, Layer, extraction_labels, names_in, settings};
use crate::layer::{Recipe, RootAttributes};
use crate::skipped::skip;
use crate::snapshot::{Error, Info, Kind, Labels, Missing, Snapshotter};
use crate::store;

fn chain_of_two() -> Host {
    let host = Host::new();
    host.commit_layer(DIR, "a", None, &Layer::new("a"));
    host.commit_layer(DIR, "b", Some("a"), &Layer::new("b"));
    host
}

fn directory_of(host: &Host, key: &str) -> std::path::PathBuf {
    let id = host.snapshotter.record(DIR, key).unwrap().id;
    host.path(&format!("snapshots/{id}"))
}

#[test]
fn a_first_start_makes_the_directories_and_reports_nothing() {
    let root = tempfile::tempdir().unwrap();
    let (_, report) = Snapshotter::open(settings(&root.path().join("new/root"))).unwrap();
    assert_eq!(
        names_in(&root.path().join("new/root")),
        ["chains", "empty", "layers", "metadata.redb", "mnt", "ready", "snapshots", "staging"]
            .map(str::to_owned)
            .into()
    );
    assert!(!report.rebuilt && report.swept.is_empty() && report.missing.is_empty());
}

#[test]
fn a_quiet_restart_changes_and_reports_nothing() {
    let host = chain_of_two();
    let before = host.snapshotter.list(DIR);
    let host = host.restart();
    assert_eq!(host.snapshotter.list(DIR), before);
    let report = &host.report;
    assert!(
        !report.rebuilt && report.swept.is_empty() && report.missing.is_empty() && report.unswept.is_empty()
    );
    host.assert_consistent();
}

#[test]
fn what_a_kill_leaves_ready_is_deleted() {
    let host = chain_of_two();
    let stale = "ready/00000000000000000000000000000000";
    let host = host.restarted(|root| fs::create_dir_all(root.join(stale).join("fs")).unwrap());
    host.assert_consistent();
    assert!(!host.path(stale).exists());
}

#[test]
fn what_no_record_names_is_swept_and_reported() {
    let host = chain_of_two();
    let stray = [
        "snapshots/00000000000000000000000000000000/fs",
        "snapshots/not-an-id",
        "layers/v1-00000000000000000000000000000000",
        "layers/x",
        "staging/half/layer",
    ];
    let host =
        host.restarted(|root| stray.iter().for_each(|path| fs::create_dir_all(root.join(path)).unwrap()));
    assert_eq!(host.report.swept.len(), stray.len(), "{:?}", host.report);
    assert!(host.report.missing.is_empty());
    host.assert_consistent();
}

#[test]
fn what_is_mounted_is_not_swept() {
    let host = chain_of_two();
    let point = host.path("snapshots/00000000000000000000000000000000/fs");
    let precious = host.path("precious");
    fs::create_dir_all(&point).unwrap();
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("file"), "x").unwrap();
    if let Err(error) = rustix::mount::mount_bind(&precious, &point) {
        skip("what_is_mounted_is_not_swept", format!("a bind mount needs CAP_SYS_ADMIN: {error}"));
        return;
    }
    let host = host.restart();
    let cleanup = host.snapshotter.cleanup();
    // The directory was moved into the trash, and the mount with it.
    let trash = fs::read_dir(host.path("staging")).unwrap().next().unwrap().unwrap().path();
    crate::unmounting::unmount(&trash.join("fs"));
    assert!(matches!(cleanup, Err(Error::Store(store::Error::Undeleted { count: 1, .. }))), "{cleanup:?}");
    assert!(precious.join("file").exists());
    host.assert_consistent();
}

#[test]
fn a_missing_layer_is_reported_and_comes_back_with_the_next_pull() {
    let host = chain_of_two();
    let layer = Layer::new("a");
    let host = host
        .restarted(|root| fs::remove_file(root.join(format!("layers/{}/layer.erofs", layer.key()))).unwrap());
    assert!(matches!(&host.report.missing[..], [Missing::Layer { key, .. }] if key.as_str() == layer.key()));
    let s = &host.snapshotter;
    assert!(matches!(s.prepare(DIR, "k", Some("b"), Labels::new()), Err(Error::LayerMissing { .. })));
    assert_eq!(s.layer_of_blob(&layer.blob, &Recipe::Native), None, "it would be taken for there");
    let host = host.restart();
    assert!(matches!(&host.report.missing[..], [Missing::Layer { .. }]), "still missing: {:?}", host.report);
    host.commit_layer(BLOCK, "a", None, &layer);
    host.snapshotter.prepare(DIR, "k", Some("b"), Labels::new()).unwrap();
    host.assert_consistent();
}

#[test]
fn a_missing_directory_is_reported_and_made_again_as_it_was_at_first() {
    let host = Host::new();
    let root = RootAttributes { mode: 0o1711, ..RootAttributes::PLAIN };
    host.commit_layer(DIR, "a", None, &Layer { root: Some(root), ..Layer::new("a") });
    let s = &host.snapshotter;
    s.prepare(DIR, "active", Some("a"), Labels::new()).unwrap();
    s.prepare(DIR, "bottom", None, Labels::new()).unwrap();
    s.prepare(DIR, "extraction", Some("a"), extraction_labels("x")).unwrap();
    s.view(DIR, "view", Some("a"), Labels::new()).unwrap();
    s.view(DIR, "empty", None, Labels::new()).unwrap();
    let keys = ["a", "active", "bottom", "extraction", "view", "empty"];
    let before = keys.map(|key| listing(&directory_of(&host, key)));
    let host = host.restarted(|root| fs::remove_dir_all(root.join("snapshots")).unwrap());
    assert_eq!(keys.map(|key| listing(&directory_of(&host, key))), before);
    let found = host.report.missing.iter();
    let remade = found.filter(|missing| matches!(missing, Missing::Directory { remade: true, .. }));
    assert_eq!((remade.count(), host.report.missing.len()), (keys.len(), keys.len()));
    host.assert_consistent();
    let host = host.restart();
    assert!(host.report.missing.is_empty(), "{:?}", host.report);
    let mounts = host.snapshotter.mounts(DIR, "extraction").unwrap();
    host.build(&host.claim(&mounts), &Layer::new("b")).unwrap();
    host.snapshotter.commit(DIR, "b", "extraction", None, Labels::new()).unwrap();
    host.assert_consistent();
}

/// Names and modes in a directory.
fn listing(directory: &Path) -> BTreeMap<String, u32> {
    let mode = |name: &str| fs::metadata(directory.join(name)).unwrap().permissions().mode();
    names_in(directory).into_iter().map(|name| (name.clone(), mode(&name))).collect()
}

#[test]
fn a_missing_writable_block_is_reported_and_can_be_removed() {
    let host = Host::new();
    host.snapshotter.prepare(BLOCK, "k", None, Labels::new()).unwrap();
    let host = host.restarted(|root| fs::remove_dir_all(root.join("snapshots")).unwrap());
    let (profile, key) = (BLOCK.to_owned(), "k".to_owned());
    let missing = Missing::Directory { profile, key, kind: Kind::Active, remade: false };
    assert_eq!(host.report.missing, [missing]);
    host.snapshotter.remove(BLOCK, "k").unwrap();
    host.assert_consistent();
}

fn garbage(root: &Path) {
    fs::write(root.join("metadata.redb"), vec![0xa5; 100_000]).unwrap();
}

fn everything(host: &Host) -> Vec<Info> {
    [DIR, BLOCK].iter().flat_map(|profile| host.snapshotter.list(profile)).collect()
}

#[test]
fn a_corrupt_database_is_set_aside_and_rebuilt_with_every_record() {
    let host = chain_of_two();
    let s = &host.snapshotter;
    s.prepare(DIR, "active", Some("b"), Labels::from([("x".to_owned(), "y".to_owned())])).unwrap();
    s.view(DIR, "view", Some("b"), Labels::new()).unwrap();
    s.prepare(BLOCK, "block", None, Labels::new()).unwrap();
    let mounts = host.extraction(DIR, "extracted", "c");
    host.build(&host.claim(&mounts), &Layer::new("c")).unwrap();
    let before = everything(&host);
    let plans: Vec<_> = ["active", "view", "extracted"].map(|key| s.mounts(DIR, key).unwrap()).into();
    let written = directory_of(&host, "active").join("fs/precious");
    fs::write(&written, "x").unwrap();

    let host = host.restarted(garbage);
    assert!(
        host.report.rebuilt && host.report.swept.is_empty() && host.report.missing.is_empty(),
        "{:?}",
        host.report
    );
    assert_eq!(fs::read(host.report.set_aside.as_ref().unwrap()).unwrap().len(), 100_000);
    assert_eq!(everything(&host), before);
    let s = &host.snapshotter;
    assert_eq!(["active", "view", "extracted"].map(|key| s.mounts(DIR, key).unwrap()).to_vec(), plans);
    assert!(written.exists());
    assert_eq!(
        s.layer_of_blob(&Layer::new("a").blob, &Recipe::Native),
        Layer::new("a").record().blob_layer()
    );
    s.commit(DIR, "c", "extracted", Some("b"), extraction_labels("c")).unwrap();
    host.assert_consistent();
    let host = host.restart();
    assert!(!host.report.rebuilt);
    host.assert_consistent();
}

#[test]
fn a_lost_database_is_rebuilt_and_sweeps_nothing() {
    let host = chain_of_two();
    let before = everything(&host);
    let host = host.restarted(|root| fs::remove_file(root.join("metadata.redb")).unwrap());
    assert!(host.report.rebuilt && host.report.swept.is_empty());
    assert_eq!(everything(&host), before);
    host.assert_consistent();
}

#[test]
fn a_snapshot_without_a_readable_record_is_kept_aside_by_a_rebuild() {
    let host = chain_of_two();
    host.snapshotter.prepare(DIR, "k", Some("b"), Labels::new()).unwrap();
    let directory = directory_of(&host, "k");
    fs::write(directory.join("fs/precious"), "x").unwrap();
    let host = host.restarted(|root| {
        garbage(root);
        fs::write(directory.join("snapshot.json"), "").unwrap();
    });
    let kept = host.path("unreadable").join(directory.file_name().unwrap());
    assert_eq!(host.report.unreadable, std::slice::from_ref(&kept));
    let host = host.restart();
    assert!(kept.join("fs/precious").exists());
    host.assert_consistent();
}

#[test]
fn a_rebuild_without_a_parent_keeps_the_layers_of_its_children() {
    let host = chain_of_two();
    let plan = host.snapshotter.prepare(DIR, "k", Some("b"), Labels::new()).unwrap();
    let parent = directory_of(&host, "a");
    let host = host.restarted(|root| {
        garbage(root);
        fs::remove_dir_all(parent).unwrap();
    });
    let lost = Missing::Parent { profile: DIR.to_owned(), key: "b".to_owned(), parent: "a".to_owned() };
    assert_eq!(host.report.missing, [lost]);
    assert_eq!(host.snapshotter.mounts(DIR, "k").unwrap(), plan);
    assert!(fs::exists(&plan[1].source).unwrap(), "a running container uses it");
    assert!(matches!(
        host.snapshotter.prepare(DIR, "x", Some("b"), Labels::new()),
        Err(Error::BrokenChain { .. })
    ));
    host.snapshotter.remove(DIR, "k").unwrap();
    host.snapshotter.remove(DIR, "b").unwrap();
    host.assert_consistent();
    assert!(host.on_disk().1.is_empty());
}

#[test]
fn records_that_contradict_each_other_are_rebuilt_and_the_later_wins() {
    let host = chain_of_two();
    host.snapshotter.prepare(DIR, "k", None, Labels::new()).unwrap();
    let first = directory_of(&host, "k");
    let twin = host.path("snapshots/00000000000000000000000000000001");
    let text = fs::read_to_string(first.join("snapshot.json")).unwrap();
    let id = first.file_name().unwrap().to_str().unwrap().to_owned();
    let host = host.restarted(|root| {
        garbage(root);
        fs::create_dir(&twin).unwrap();
        let older = text
            .replace(&id, "00000000000000000000000000000001")
            .replace("\"updated\":{\"secs_since_epoch\":1", "\"updated\":{\"secs_since_epoch\":0");
        assert_ne!(older, text);
        fs::write(twin.join("snapshot.json"), older).unwrap();
    });
    assert_eq!(directory_of(&host, "k"), first);
    assert_eq!(host.report.unreadable.len(), 1);
    host.assert_consistent();
}

#[test]
fn a_second_daemon_on_the_same_root_is_refused() {
    let host = chain_of_two();
    let error = Snapshotter::open(settings(host.root.path())).unwrap_err();
    assert!(matches!(error, Error::Store(store::Error::InUse { .. })), "{error}");
}

#[test]
fn an_interrupted_commit_loses_its_writable_files_at_the_next_start() {
    let host = chain_of_two();
    let directory = directory_of(&host, "b");
    host.snapshotter.cleanup().unwrap();
    assert_eq!(names_in(&directory), ["snapshot.json".to_owned()].into());
    let host = host.restarted(|_| fs::create_dir_all(directory.join("work/work")).unwrap());
    host.snapshotter.cleanup().unwrap();
    assert_eq!(names_in(&directory), ["snapshot.json".to_owned()].into());
}
