//! Layer files that nobody can change: the immutable attribute, and fs-verity.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use super::host::{DIR, Host, Layer, names_in, settings};
use crate::error::{Classify, Kind};
use crate::layer::protection::has_fsverity;
use crate::layer::{Protection, Recipe};
use crate::skipped::skip;
use crate::snapshot::{Error, Labels, Missing, Snapshotter};

const IMMUTABLE: Protection = Protection { fsverity: false, immutable: true };
const SEALED: Protection = Protection { fsverity: true, immutable: true };

fn protected(host: Host, protection: Protection) -> Host {
    host.reconfigured(|settings| settings.protection = protection)
}

fn image(host: &Host, layer: &Layer) -> PathBuf {
    host.path(&format!("layers/{}/layer.erofs", layer.key()))
}

fn is_immutable(path: &Path) -> bool {
    ioctl_getflags(File::open(path).unwrap()).unwrap().contains(IFlags::IMMUTABLE)
}

/// Whether files can have the attribute here; if not, the test is named as skipped.
fn has_attribute(test: &str, host: &Host) -> bool {
    let path = host.path("attribute");
    let file = File::create(&path).unwrap();
    let set = ioctl_getflags(&file).and_then(|flags| {
        ioctl_setflags(&file, flags | IFlags::IMMUTABLE)?;
        ioctl_setflags(&file, flags)
    });
    fs::remove_file(path).unwrap();
    set.map_err(|error| skip(test, format!("no immutable attribute: {error}"))).is_ok()
}

#[test]
fn a_layer_is_immutable_until_it_is_removed() {
    let host = protected(Host::new(), IMMUTABLE);
    if !has_attribute("a_layer_is_immutable_until_it_is_removed", &host) {
        return;
    }
    let layer = Layer::new("a");
    host.commit_layer(DIR, "a", None, &layer);
    let path = image(&host, &layer);
    assert!(is_immutable(&path));
    assert!(File::options().write(true).open(&path).is_err());
    fs::remove_file(&path).unwrap_err();
    // What is recorded beside it does change.
    let mounts = host.extraction(DIR, "again", "x");
    host.build(&host.claim(&mounts), &Layer { blob: Layer::new("b").blob, ..layer }).unwrap();
    host.snapshotter.remove(DIR, "again").unwrap();
    host.snapshotter.remove(DIR, "a").unwrap();
    host.assert_consistent();
    assert!(host.on_disk().1.is_empty());
}

#[test]
fn what_a_kill_left_immutable_is_swept() {
    let host = protected(Host::new(), IMMUTABLE);
    if !has_attribute("what_a_kill_left_immutable_is_swept", &host) {
        return;
    }
    let layer = Layer::new("a");
    host.commit_layer(DIR, "a", None, &layer);
    let path = image(&host, &layer);
    let host = host.restarted(|root| {
        let staged = root.join("staging/half");
        fs::create_dir(&staged).unwrap();
        fs::rename(path.parent().unwrap(), staged.join("layer")).unwrap();
    });
    assert!(matches!(host.report.missing[..], [Missing::Layer { .. }]), "{:?}", host.report);
    host.snapshotter.remove(DIR, "a").unwrap();
    host.snapshotter.cleanup().unwrap();
    assert!(names_in(&host.path("staging")).is_empty());
    host.assert_consistent();
}

#[test]
fn a_file_with_another_name_keeps_its_attributes() {
    let host = protected(Host::new(), IMMUTABLE);
    let layer = Layer::new("a");
    let mounts = host.extraction(DIR, "k", "x");
    let staging = host.snapshotter.staging().unwrap();
    let operators = host.path("operators");
    fs::write(&operators, &layer.image).unwrap();
    fs::hard_link(&operators, staging.layer_path()).unwrap();
    host.snapshotter.attach_built(&host.claim(&mounts), staging, layer.record()).unwrap();
    File::options().write(true).open(&operators).unwrap();
}

#[test]
fn without_fs_verity_the_daemon_refuses_to_seal() {
    let host = Host::new();
    if has_fsverity(host.root.path()).unwrap() {
        skip("without_fs_verity_the_daemon_refuses_to_seal", "this file system has fs-verity".to_owned());
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let mut settings = settings(root.path());
    settings.protection = SEALED;
    let error = Snapshotter::open(settings).unwrap_err();
    assert!(matches!(error, Error::NoFsverity { .. }), "{error}");
    assert_eq!(error.kind(), Kind::InvalidArgument);
    assert!(error.to_string().contains("tune2fs -O verity"), "{error}");
    assert!(names_in(&root.path().join("staging")).is_empty());
}

/// A host whose layers are sealed, if the file system can do that; if not, the test is named as skipped.
fn sealing_host(test: &str) -> Option<Host> {
    let host = Host::new();
    if has_fsverity(host.root.path()).unwrap() {
        return Some(protected(host, SEALED));
    }
    skip(test, "the file system of the temporary directory has no fs-verity".to_owned());
    None
}

/// Puts another file in the place of a layer's.
fn replace(path: &Path, content: &[u8]) {
    let file = File::open(path).unwrap();
    let flags = ioctl_getflags(&file).unwrap();
    ioctl_setflags(&file, flags - IFlags::IMMUTABLE).unwrap();
    fs::remove_file(path).unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn a_layer_that_was_replaced_is_not_handed_out() {
    let Some(host) = sealing_host("a_layer_that_was_replaced_is_not_handed_out") else { return };
    let s = &host.snapshotter;
    let layer = Layer::new("a");
    host.commit_layer(DIR, "a", None, &layer);
    s.prepare(DIR, "before", Some("a"), Labels::new()).unwrap();
    let path = image(&host, &layer);
    assert!(File::options().write(true).open(&path).is_err());

    replace(&path, &layer.image);
    for refused in [
        s.mounts(DIR, "before"),
        s.prepare(DIR, "x", Some("a"), Labels::new()),
        s.view(DIR, "x", Some("a"), Labels::new()),
    ] {
        let error = refused.unwrap_err();
        assert!(matches!(error, Error::Tampered { .. }), "{error}");
        assert_eq!(error.kind(), Kind::DataLoss);
    }
    assert_eq!(s.layer_of_blob(&layer.blob, &Recipe::Native), None, "it would be shared");
    // The next pull makes it anew.
    host.commit_layer(DIR, "again", None, &layer);
    s.mounts(DIR, "before").unwrap();
    host.assert_consistent();
}

#[test]
fn a_seal_is_checked_by_the_next_start_and_outlasts_the_database() {
    let Some(host) = sealing_host("a_seal_is_checked_by_the_next_start_and_outlasts_the_database") else {
        return;
    };
    let layer = Layer::new("a");
    host.commit_layer(DIR, "a", None, &layer);
    let path = image(&host, &layer);
    let host = protected(host.restarted(|root| fs::remove_file(root.join("metadata.redb")).unwrap()), SEALED);
    host.snapshotter.view(DIR, "v", Some("a"), Labels::new()).unwrap();
    replace(&path, &layer.image);
    let host = protected(host, SEALED);
    assert!(matches!(host.report.missing[..], [Missing::Layer { .. }]), "{:?}", host.report);
}
