//! Kills and full disks at every step.
//!
//! The database is the last to learn of what is added and the first to learn of what is removed.
//! So a copy of the root directory before and after each of its operations on its file is what a
//! kill at each step can leave.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustix::mount::MountFlags;
use tempfile::TempDir;

use super::host::{BLOCK, DIR, Host, Layer, extraction_labels, kind, settings};
use crate::error::Kind;
use crate::layer::Recipe;
use crate::skipped::skip;
use crate::snapshot::{Labels, Snapshotter};
use crate::store::FileMedium;
use crate::store::faults::{FaultyMedium, Script};
use crate::unmounting::unmount;

/// A host on a copy of `template`.
pub(super) fn faulty(template: &Path) -> (Host, Arc<Script>) {
    let root = tempfile::tempdir().unwrap();
    copy_tree(template, root.path());
    let (medium, script) = FaultyMedium::new(root.path().join("metadata.redb"));
    (Host::on(root, Box::new(medium)), script)
}

pub(super) fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => copy_tree(&entry.path(), &target),
            // What the trash deletes meanwhile may be gone.
            _ => drop(fs::copy(entry.path(), target)),
        }
    }
}

/// All that is remembered but the times and identifiers: snapshots with their layers, and layers.
fn visible(snapshotter: &Snapshotter) -> BTreeSet<String> {
    snapshotter.inner.ledger.read(|index| {
        let snapshots = index.snapshots().map(|record| {
            let layers: Vec<_> = record.layers().collect();
            let (info, profile) = (record.info(), &record.profile);
            format!("{profile} {} {} {:?} {:?} {layers:?}", info.kind, info.name, info.parent, info.labels)
        });
        let layers = index.layers().map(|layer| format!("{layer:?}"));
        snapshots.chain(layers).collect()
    })
}

/// A root with committed snapshots, and one of each kind above them.
fn populated() -> TempDir {
    let host = Host::new();
    host.commit_layer(DIR, "a", None, &Layer::new("a"));
    host.commit_layer(DIR, "b", Some("a"), &Layer::new("b"));
    host.commit_layer(BLOCK, "b", None, &Layer::new("b"));
    host.snapshotter.prepare(DIR, "active", Some("b"), Labels::new()).unwrap();
    host.snapshotter.view(DIR, "view", Some("b"), Labels::new()).unwrap();
    let mounts = host.extraction(DIR, "extracted", "c");
    host.build(&host.claim(&mounts), &Layer::new("c")).unwrap();
    host.extraction(DIR, "empty extraction", "d");
    host.snapshotter.cleanup().unwrap();
    let Host { root, .. } = host;
    root
}

type Operation = fn(&Host);

/// What can happen to a populated host, by name.
fn operations() -> Vec<(&'static str, Operation)> {
    vec![
        ("prepare", |host| drop(host.snapshotter.prepare(DIR, "new", Some("b"), Labels::new()))),
        ("prepare a block", |host| drop(host.snapshotter.prepare(BLOCK, "new", Some("b"), Labels::new()))),
        ("view", |host| drop(host.snapshotter.view(DIR, "new", None, Labels::new()))),
        ("commit", |host| {
            drop(host.snapshotter.commit(DIR, "c", "extracted", Some("b"), extraction_labels("c")));
        }),
        ("remove an active", |host| drop(host.snapshotter.remove(DIR, "active"))),
        ("remove the last use of a layer", |host| drop(host.snapshotter.remove(DIR, "extracted"))),
        ("remove one use of a layer", |host| drop(host.snapshotter.remove(BLOCK, "b"))),
        ("publish a layer", |host| {
            let mounts = host.snapshotter.mounts(DIR, "empty extraction").unwrap();
            drop(host.build(&host.claim(&mounts), &Layer::new("d")));
        }),
        ("share a layer", |host| {
            let mounts = host.snapshotter.mounts(DIR, "empty extraction").unwrap();
            let layer = Layer::new("a");
            drop(host.snapshotter.attach_existing(
                &host.claim(&mounts),
                &Recipe::Native,
                &layer.diff_id,
                &layer.diff_id,
            ));
        }),
        ("replace a layer", |host| {
            let mounts = host.snapshotter.mounts(DIR, "extracted").unwrap();
            drop(host.build(&host.claim(&mounts), &Layer::new("e")));
        }),
    ]
}

#[test]
fn a_kill_at_any_step_is_repaired_to_before_or_after() {
    let template = populated();
    for (name, operation) in operations() {
        let (host, script) = faulty(template.path());
        let before = visible(&host.snapshotter);
        let copies: Arc<Mutex<Vec<TempDir>>> = Arc::default();
        let (from, to) = (host.root.path().to_owned(), Arc::clone(&copies));
        script.observe(move || {
            let copy = tempfile::tempdir().unwrap();
            copy_tree(&from, copy.path());
            to.lock().unwrap().push(copy);
        });
        operation(&host);
        script.ignore();
        let after = visible(&host.snapshotter);
        host.assert_consistent();
        let copies = std::mem::take(&mut *copies.lock().unwrap());
        assert!(copies.len() > 4, "{name}: {} steps seen", copies.len());
        let (mut reached, mut swept) = (Vec::new(), 0);
        for (step, copy) in copies.into_iter().enumerate() {
            let (snapshotter, report) = Snapshotter::open(settings(copy.path())).unwrap();
            let host = Host { root: copy, snapshotter, report };
            let found = visible(&host.snapshotter);
            assert!(found == before || found == after, "{name}, step {step}: {found:?}");
            assert!(host.report.missing.is_empty(), "{name}, step {step}: {:?}", host.report);
            assert!(!host.report.rebuilt, "{name}, step {step}");
            host.assert_consistent();
            reached.push(found == after);
            swept += host.report.swept.len();
        }
        assert!(reached.is_sorted(), "{name}: {reached:?}");
        assert_eq!((reached.first(), reached.last()), (Some(&false), Some(&true)), "{name}: {reached:?}");
        let moves_directories = !matches!(name, "commit" | "share a layer" | "remove one use of a layer");
        assert!(swept > 0 || !moves_directories, "{name}: the sweep was not put to the test");
    }
}

#[test]
fn a_full_disk_at_any_step_fails_the_request_and_nothing_else() {
    let template = populated();
    for (name, operation) in operations() {
        let mut fault = 0;
        loop {
            let (host, script) = faulty(template.path());
            let before = visible(&host.snapshotter);
            script.fail(fault..fault + 1);
            operation(&host);
            let hit = script.done() > fault;
            script.fail(0..0);
            let found = visible(&host.snapshotter);
            host.assert_consistent();
            // The request can be repeated, if it failed.
            if found == before {
                operation(&host);
                host.assert_consistent();
            }
            let found = visible(&host.snapshotter);
            let host = host.restart();
            assert_eq!(visible(&host.snapshotter), found, "{name}, fault {fault}");
            assert!(host.report.missing.is_empty(), "{name}, fault {fault}: {:?}", host.report);
            assert!(host.report.swept.is_empty(), "{name}, fault {fault}: {:?}", host.report);
            host.assert_consistent();
            if !hit {
                break;
            }
            fault += 1;
        }
        assert!(fault > 2, "{name}: {fault} faults");
    }
}

#[test]
fn a_disk_that_stays_full_loses_nothing_and_a_restart_heals() {
    let template = populated();
    for (name, operation) in operations() {
        let (host, script) = faulty(template.path());
        let before = visible(&host.snapshotter);
        script.fail(0..u64::MAX);
        operation(&host);
        assert_eq!(visible(&host.snapshotter), before, "{name}");
        script.fail(0..0);
        let host = host.restart();
        assert_eq!(visible(&host.snapshotter), before, "{name}");
        assert!(host.report.missing.is_empty(), "{name}: {:?}", host.report);
        host.assert_consistent();
    }
}

#[test]
fn what_is_removed_makes_room_on_a_full_disk() {
    let test = "what_is_removed_makes_room_on_a_full_disk";
    let point = tempfile::tempdir().unwrap();
    let mounted =
        rustix::mount::mount("tmpfs", point.path(), "tmpfs", MountFlags::empty(), Some(c"size=64m"));
    if let Err(error) = mounted {
        return skip(test, format!("a tmpfs needs CAP_SYS_ADMIN: {error}"));
    }
    let disk = Disk(point);
    let root = tempfile::tempdir_in(disk.0.path()).unwrap();
    let database = Box::new(FileMedium(root.path().join("metadata.redb")));
    let host = Host::on(root, database);
    for name in 0..10 {
        host.commit_layer(DIR, &format!("{name}"), None, &Layer::new(&format!("layer {name}")));
    }
    disk.fill();
    assert_eq!(kind(host.snapshotter.prepare(DIR, "key", Some("0"), Labels::new())), Kind::ResourceExhausted);
    for name in 0..10 {
        host.snapshotter.remove(DIR, &format!("{name}")).unwrap();
    }
    assert!(host.on_disk().1.is_empty());
    host.commit_layer(DIR, "new", None, &Layer::new("new"));
    host.assert_consistent();
    drop(host);
}

/// A small disk, for as long as this lives.
struct Disk(TempDir);

impl Disk {
    /// Leaves not one block.
    fn fill(&self) {
        let mut file = fs::File::create(self.0.path().join("rest")).unwrap();
        let block = [1; 4096];
        while file.write_all(&block).is_ok() {}
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        unmount(self.0.path());
    }
}
