//! The rules of containerd's snapshot model.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::thread;

use super::host::{BLOCK, BLOCK_SIZE, DIR, Host, Layer, extraction_labels, kind};
use super::plan::upper_of;
use crate::error::Kind as Failure;
use crate::image::digest::Digest;
use crate::layer::RootAttributes;
use crate::snapshot::{Kind, LabelChange, Labels, Usage};

fn labels(name: &str, value: &str) -> Labels {
    Labels::from([(name.to_owned(), value.to_owned())])
}

#[test]
fn an_extraction_is_prepared_committed_and_viewed() {
    let host = Host::new();
    let layer = Layer::new("a");
    host.commit_layer(DIR, "a", None, &layer);
    let info = host.snapshotter.stat(DIR, "a").unwrap();
    assert_eq!((info.kind, info.parent, &*info.name), (Kind::Committed, None, "a"));
    assert_eq!(info.created, info.updated);
    assert_eq!(info.labels, extraction_labels("a"));
    assert_eq!(kind(host.snapshotter.stat(DIR, "extract a")), Failure::NotFound);
    let mounts = host.snapshotter.view(DIR, "v", Some("a"), Labels::new()).unwrap();
    assert_eq!(mounts[0].source, host.path(&format!("layers/{}/layer.erofs", layer.key())).to_str().unwrap());
    assert_eq!(fs::read(&mounts[0].source).unwrap(), layer.image);
    assert_eq!(host.snapshotter.stat(DIR, "v").unwrap().kind, Kind::View);
    host.assert_consistent();
}

#[test]
fn what_plans_name_exists() {
    let host = Host::new();
    host.commit_layer(DIR, "a", None, &Layer::new("a"));
    host.commit_layer(BLOCK, "a", None, &Layer::new("a"));
    for profile in [DIR, BLOCK] {
        for (index, parent) in [None, Some(""), Some("a")].into_iter().enumerate() {
            let active =
                host.snapshotter.prepare(profile, &format!("p{index}"), parent, Labels::new()).unwrap();
            let view = host.snapshotter.view(profile, &format!("v{index}"), parent, Labels::new()).unwrap();
            let extraction = host
                .snapshotter
                .prepare(profile, &format!("e{index}"), parent, extraction_labels("x"))
                .unwrap();
            for mount in active.iter().chain(&view).chain(&extraction) {
                let options = mount.options.iter().filter_map(|o| o.split_once('=').map(|(_, value)| value));
                for path in options.chain([mount.source.as_str()]).filter(|path| path.starts_with('/')) {
                    assert!(fs::exists(path).unwrap(), "{path} of {mount:?}");
                }
            }
        }
    }
    host.assert_consistent();
}

#[test]
fn parents_must_exist_and_be_committed() {
    let host = Host::new();
    let s = &host.snapshotter;
    s.prepare(DIR, "active", None, Labels::new()).unwrap();
    s.view(DIR, "view", None, Labels::new()).unwrap();
    assert_eq!(kind(s.prepare(DIR, "x", Some("none"), Labels::new())), Failure::NotFound);
    assert_eq!(kind(s.view(DIR, "x", Some("none"), Labels::new())), Failure::NotFound);
    for parent in ["active", "view"] {
        assert_eq!(kind(s.prepare(DIR, "x", Some(parent), Labels::new())), Failure::InvalidArgument);
        assert_eq!(kind(s.view(DIR, "x", Some(parent), Labels::new())), Failure::InvalidArgument);
    }
    host.assert_consistent();
}

#[test]
fn keys_and_names_share_one_space_in_a_profile_and_none_between_profiles() {
    let host = Host::new();
    let s = &host.snapshotter;
    host.commit_layer(DIR, "a", None, &Layer::new("a"));
    s.prepare(DIR, "k", None, Labels::new()).unwrap();
    for key in ["a", "k"] {
        assert_eq!(kind(s.prepare(DIR, key, None, Labels::new())), Failure::AlreadyExists);
        assert_eq!(kind(s.view(DIR, key, None, Labels::new())), Failure::AlreadyExists);
        let mounts = host.extraction(DIR, "e", "x");
        host.build(&host.claim(&mounts), &Layer::new("b")).unwrap();
        assert_eq!(kind(s.commit(DIR, key, "e", None, Labels::new())), Failure::AlreadyExists);
        s.remove(DIR, "e").unwrap();
    }
    assert_eq!(kind(s.prepare(BLOCK, "k2", Some("a"), Labels::new())), Failure::NotFound);
    s.prepare(BLOCK, "k", None, Labels::new()).unwrap();
    assert_eq!(s.list(DIR).len(), 2);
    assert_eq!(s.list(BLOCK).len(), 1);
    host.assert_consistent();
}

#[test]
fn only_a_configured_profile_makes_snapshots_but_all_can_be_read() {
    let host = Host::new();
    let error = host.snapshotter.prepare("other", "k", None, Labels::new()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("dir") && text.contains("block") && text.contains("[profiles.other]"), "{text}");
    assert_eq!(kind(host.snapshotter.view("other", "k", None, Labels::new())), Failure::InvalidArgument);
    assert_eq!(kind(host.snapshotter.stat("other", "k")), Failure::NotFound);
    assert!(host.snapshotter.list("other").is_empty());
}

#[test]
fn empty_keys_are_refused() {
    let host = Host::new();
    let s = &host.snapshotter;
    assert_eq!(kind(s.prepare(DIR, "", None, Labels::new())), Failure::InvalidArgument);
    s.prepare(DIR, "k", None, Labels::new()).unwrap();
    assert_eq!(kind(s.commit(DIR, "", "k", None, Labels::new())), Failure::InvalidArgument);
}

#[test]
fn keys_are_opaque() {
    let host = Host::new();
    let key = "k8s.io/17/extract-123-x_Y= sha256:00/../../..";
    host.snapshotter.prepare(DIR, key, None, Labels::new()).unwrap();
    assert_eq!(host.snapshotter.list(DIR)[0].name, key);
    let host = host.restart();
    assert_eq!(host.snapshotter.stat(DIR, key).unwrap().name, key);
    host.assert_consistent();
}

#[test]
fn the_key_of_the_classic_client_says_extraction_as_the_label_does() {
    let host = Host::new();
    let s = &host.snapshotter;
    let chain_id = Digest::of(b"chain");
    for profile in [DIR, BLOCK] {
        host.commit_layer(profile, "a", None, &Layer::new("a"));
        for parent in [None, Some("a")] {
            let key = format!("k8s.io/17/extract-123456789-x_Y= {chain_id}");
            let mounts = s.prepare(profile, &key, parent, Labels::new()).unwrap();
            let id = s.record(profile, &key).unwrap().id;
            let directory = host.path(&format!("snapshots/{id}"));
            assert!(directory.join("fs").exists() && !directory.join("rwlayer.img").exists());
            assert!(mounts.last().unwrap().fstype.ends_with("overlay"), "{mounts:?}");
            host.build(&host.claim(&mounts), &Layer::new("b")).unwrap();
            s.remove(profile, &key).unwrap();
        }
        for key in ["extract-1", "extract-1 x", "extract-1 sha256:00", "extract x", "x/extract-1 sha256:00/y"]
        {
            let mounts = s.prepare(profile, key, None, Labels::new()).unwrap();
            assert_eq!(mounts[0].fstype, if profile == BLOCK { "ext4" } else { "erofs" }, "{key}");
        }
    }
    host.assert_consistent();
}

#[test]
fn a_root_with_attributes_that_the_host_cannot_hold_can_be_prepared() {
    let host = Host::new();
    let xattrs = [(b"user.big".to_vec(), vec![1; 60 << 10]), (b"user.a".to_vec(), b"b".to_vec())];
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let root = RootAttributes { mode: 0o750, uid, gid, xattrs: xattrs.into() };
    for profile in [DIR, BLOCK] {
        host.commit_layer(profile, "a", None, &Layer { root: Some(root.clone()), ..Layer::new("a") });
        host.snapshotter.prepare(profile, "k", Some("a"), Labels::new()).unwrap();
    }
    let id = host.snapshotter.record(DIR, "k").unwrap().id;
    let upper = host.path(&format!("snapshots/{id}/fs"));
    let mut value = [0; 8];
    let length = rustix::fs::getxattr(&upper, "user.a", &mut value).unwrap();
    assert_eq!(&value[..length], b"b");
    assert_eq!(fs::metadata(&upper).unwrap().permissions().mode() & 0o7777, 0o750);
}

#[test]
fn a_committed_snapshot_has_no_mounts_and_is_not_committed_again() {
    let host = Host::new();
    let s = &host.snapshotter;
    host.commit_layer(DIR, "a", None, &Layer::new("a"));
    s.view(DIR, "v", Some("a"), Labels::new()).unwrap();
    assert_eq!(kind(s.mounts(DIR, "a")), Failure::FailedPrecondition);
    assert_eq!(kind(s.commit(DIR, "b", "a", None, Labels::new())), Failure::FailedPrecondition);
    assert_eq!(kind(s.commit(DIR, "b", "v", None, Labels::new())), Failure::FailedPrecondition);
    assert_eq!(kind(s.mounts(DIR, "none")), Failure::NotFound);
    assert_eq!(kind(s.commit(DIR, "b", "none", None, Labels::new())), Failure::NotFound);
}

#[test]
fn a_parent_outlives_its_children() {
    let host = Host::new();
    let s = &host.snapshotter;
    host.commit_layer(DIR, "a", None, &Layer::new("a"));
    host.commit_layer(DIR, "b", Some("a"), &Layer::new("b"));
    s.view(DIR, "v", Some("b"), Labels::new()).unwrap();
    for name in ["a", "b"] {
        let error = s.remove(DIR, name).unwrap_err();
        assert!(error.to_string().contains("remove"), "{error}");
        assert_eq!(kind(s.remove(DIR, name)), Failure::FailedPrecondition);
    }
    for name in ["v", "b", "a"] {
        s.remove(DIR, name).unwrap();
    }
    assert_eq!(kind(s.remove(DIR, "a")), Failure::NotFound);
    host.assert_consistent();
    assert!(host.on_disk().1.is_empty());
}

#[test]
fn a_parentless_active_can_be_rebased_at_commit_and_no_other() {
    let host = Host::new();
    let s = &host.snapshotter;
    host.commit_layer(DIR, "a", None, &Layer::new("a"));
    host.commit_layer(DIR, "b", Some("a"), &Layer::new("b"));
    assert_eq!(s.stat(DIR, "b").unwrap().parent.as_deref(), Some("a"));
    let mounts = s.prepare(DIR, "c", Some("b"), extraction_labels("c")).unwrap();
    host.build(&host.claim(&mounts), &Layer::new("c")).unwrap();
    assert_eq!(kind(s.commit(DIR, "x", "c", Some("a"), Labels::new())), Failure::InvalidArgument);
    s.commit(DIR, "x", "c", Some("b"), Labels::new()).unwrap();
    assert_eq!(s.stat(DIR, "x").unwrap().parent.as_deref(), Some("b"));
    let mounts = host.extraction(DIR, "d", "d");
    host.build(&host.claim(&mounts), &Layer::new("d")).unwrap();
    s.prepare(DIR, "active", None, Labels::new()).unwrap();
    assert_eq!(kind(s.commit(DIR, "y", "d", Some("none"), Labels::new())), Failure::NotFound);
    assert_eq!(kind(s.commit(DIR, "y", "d", Some("active"), Labels::new())), Failure::FailedPrecondition);
    assert_eq!(kind(s.commit(DIR, "y", "d", Some("d"), Labels::new())), Failure::FailedPrecondition);
    s.commit(DIR, "y", "d", Some(""), Labels::new()).unwrap();
    assert_eq!(s.stat(DIR, "y").unwrap().parent, None);
    host.assert_consistent();
}

#[test]
fn labels_are_replaced_at_commit() {
    let host = Host::new();
    let s = &host.snapshotter;
    let mounts = host.extraction(DIR, "k", "a");
    let before = s.stat(DIR, "k").unwrap();
    host.build(&host.claim(&mounts), &Layer::new("a")).unwrap();
    let mut new = labels("x", "1");
    new.insert("gone".to_owned(), String::new());
    s.commit(DIR, "a", "k", None, new).unwrap();
    let info = s.stat(DIR, "a").unwrap();
    assert_eq!(info.labels, labels("x", "1"));
    assert!(info.created > before.created);
}

#[test]
fn every_update_is_later_than_the_one_before() {
    let host = Host::new();
    let s = &host.snapshotter;
    s.prepare(DIR, "k", None, labels("a", "1")).unwrap();
    let first = s.stat(DIR, "k").unwrap();
    assert_eq!(first.created, first.updated);
    let second = s.update(DIR, "k", LabelChange::Set(labels("b", "2"))).unwrap();
    let third = s.update(DIR, "k", LabelChange::Set(labels("a", ""))).unwrap();
    assert!(first.updated < second.updated && second.updated < third.updated);
    assert_eq!(third.created, first.created);
    assert_eq!(third.labels, labels("b", "2"));
    assert_eq!(s.stat(DIR, "k").unwrap(), third);
    assert_eq!(kind(s.update(DIR, "none", LabelChange::Set(Labels::new()))), Failure::NotFound);
    let host = host.restart();
    assert_eq!(host.snapshotter.stat(DIR, "k").unwrap(), third);
}

#[test]
fn usage_of_each_kind() {
    let host = Host::new();
    let s = &host.snapshotter;
    let layer = Layer::new("a");
    host.commit_layer(DIR, "a", None, &layer);
    host.commit_layer(BLOCK, "a", None, &layer);
    let stat = rustix::fs::stat(host.path(&format!("layers/{}/layer.erofs", layer.key()))).unwrap();
    let charged = Usage { bytes: stat.st_blocks as u64 * 512, inodes: 1 };
    assert_eq!(s.usage(DIR, "a").unwrap(), charged);
    assert_eq!(s.usage(BLOCK, "a").unwrap(), charged, "a shared layer is charged to each");
    s.view(DIR, "v", Some("a"), Labels::new()).unwrap();
    assert_eq!(s.usage(DIR, "v").unwrap(), Usage::default());

    let mounts = s.prepare(DIR, "k", Some("a"), Labels::new()).unwrap();
    let upper = mounts[1].options.iter().find_map(|option| option.strip_prefix("upperdir=")).unwrap();
    assert_eq!(s.usage(DIR, "k").unwrap().inodes, 1);
    fs::write(format!("{upper}/file"), vec![1; 100_000]).unwrap();
    rustix::fs::sync();
    let usage = s.usage(DIR, "k").unwrap();
    assert_eq!(usage.inodes, 2);
    assert!(usage.bytes >= 100_000, "{usage:?}");

    let mounts = s.prepare(BLOCK, "k", Some("a"), Labels::new()).unwrap();
    let usage = s.usage(BLOCK, "k").unwrap();
    assert_eq!(fs::metadata(&mounts[0].source).unwrap().len(), BLOCK_SIZE);
    assert_eq!(usage.inodes, 1);
    assert!(usage.bytes > 0 && usage.bytes < BLOCK_SIZE, "{usage:?}");
    assert_eq!(kind(s.usage(DIR, "none")), Failure::NotFound);
}

#[test]
fn usage_of_what_is_removed_meanwhile_is_no_fault() {
    let host = Host::new();
    let s = &host.snapshotter;
    let mounts = s.prepare(DIR, "key", None, Labels::new()).unwrap();
    let record = s.record(DIR, "key").unwrap();
    assert!(s.usage_of(&record).unwrap().is_some());
    s.remove(DIR, "key").unwrap();
    assert_eq!(s.usage_of(&record).unwrap(), None);
    assert_eq!(kind(s.usage(DIR, "key")), Failure::NotFound);
    assert!(!upper_of(&mounts).exists());

    let mounts = s.prepare(DIR, "key", None, Labels::new()).unwrap();
    fs::remove_dir(upper_of(&mounts)).unwrap();
    assert_eq!(kind(s.usage(DIR, "key")), Failure::Internal, "its files are lost");
}

#[test]
fn plans_do_not_change_with_the_settings() {
    let host = Host::new();
    host.commit_layer(DIR, "a", None, &Layer::new("a"));
    host.commit_layer(DIR, "b", Some("a"), &Layer::new("b"));
    let s = &host.snapshotter;
    let given = [
        s.prepare(DIR, "p", Some("b"), Labels::new()).unwrap(),
        s.view(DIR, "v", Some("b"), Labels::new()).unwrap(),
    ];
    let super::host::Host { root, snapshotter, .. } = host;
    drop(snapshotter);
    let mut settings = super::host::settings(root.path());
    let profile = settings.profiles.get_mut(DIR).unwrap();
    profile.default_size = BLOCK_SIZE;
    profile.overlay_options = vec!["metacopy=on".parse().unwrap()];
    let (s, _) = crate::snapshot::Snapshotter::open(settings).unwrap();
    assert_eq!([s.mounts(DIR, "p").unwrap(), s.mounts(DIR, "v").unwrap()], given);
}

#[test]
fn the_upper_directory_looks_like_the_root_of_the_image() {
    let host = Host::new();
    let s = &host.snapshotter;
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let named =
        |mode| Some(RootAttributes { mode, uid, gid, xattrs: [(b"user.a".to_vec(), b"b".to_vec())].into() });
    host.commit_layer(DIR, "a", None, &Layer { root: named(0o700), ..Layer::new("a") });
    host.commit_layer(DIR, "b", Some("a"), &Layer { root: named(0o1777), ..Layer::new("b") });
    host.commit_layer(DIR, "c", Some("b"), &Layer::new("c"));
    let upper = |key: &str, parent: Option<&str>, labels: Labels| {
        let mounts = s.prepare(DIR, key, parent, labels).unwrap();
        let last = mounts.last().unwrap();
        let upper = last.options.iter().find_map(|option| option.strip_prefix("upperdir="));
        std::path::PathBuf::from(upper.unwrap_or(&last.source))
    };
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let on_c = upper("k", Some("c"), Labels::new());
    assert_eq!(mode(&on_c), 0o1777, "the newest layer that names / decides");
    assert_eq!(fs::metadata(&on_c).unwrap().uid(), uid);
    let mut value = [0; 8];
    let length = rustix::fs::getxattr(&on_c, "user.a", &mut value).unwrap();
    assert_eq!(&value[..length], b"b");
    assert_eq!(mode(&on_c.with_file_name("work")), 0o711);
    assert_eq!(mode(&upper("none", None, Labels::new())), 0o755);
    assert_eq!(mode(&upper("e", Some("c"), extraction_labels("x"))), 0o755);
}

#[test]
fn one_of_many_that_want_a_key_gets_it() {
    let host = Host::new();
    let won = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| host.snapshotter.prepare(DIR, "k", None, Labels::new()))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).filter(Result::is_ok).count()
    });
    assert_eq!(won, 1);
    host.assert_consistent();
}

#[test]
fn one_of_many_that_commit_or_remove_a_snapshot_succeeds() {
    let host = Host::new();
    for round in 0..8 {
        let layer = Layer::new(&format!("layer {round}"));
        let mounts = host.extraction(DIR, "k", "x");
        host.build(&host.claim(&mounts), &layer).unwrap();
        let name = format!("committed {round}");
        let (committed, removed) = thread::scope(|scope| {
            let commit = scope.spawn(|| host.snapshotter.commit(DIR, &name, "k", None, Labels::new()));
            let remove = scope.spawn(|| host.snapshotter.remove(DIR, "k"));
            let cleanup = scope.spawn(|| host.snapshotter.cleanup());
            cleanup.join().unwrap().unwrap();
            (commit.join().unwrap().is_ok(), remove.join().unwrap().is_ok())
        });
        assert!(committed != removed, "round {round}");
        assert_eq!(host.snapshotter.stat(DIR, &name).is_ok(), committed);
        host.assert_consistent();
    }
}
