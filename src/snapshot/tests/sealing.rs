//! Layers of what was written: failures, removals, restarts, and kills at every step.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::crash::{copy_tree, faulty};
use super::host::{BLOCK, DIR, Host, kind, settings};
use super::plan::upper_of;
use super::written::{commit_file, read_newest};
use crate::error::Kind as Failure;
use crate::skipped::skip;
use crate::snapshot::{Error, Kind, Labels, Missing, Snapshotter};
use crate::sys::locks;

/// Takes away the place where layers are made, so that none can be; the second call gives it back.
fn move_staging(root: &Path, away: bool) {
    let (place, aside) = (root.join("staging"), root.join("staging aside"));
    let (from, to) = if away { (place, aside) } else { (aside, place) };
    fs::rename(from, to).unwrap();
}

/// A committed snapshot `a` whose layer could not be made, and now could be.
fn unsealed() -> Host {
    let host = Host::new();
    let mounts = host.snapshotter.prepare(DIR, "k", None, Labels::new()).unwrap();
    fs::write(upper_of(&mounts).join("a"), "content of a").unwrap();
    move_staging(host.root.path(), true);
    host.snapshotter.commit(DIR, "a", "k", None, Labels::new()).unwrap();
    assert_eq!(kind(host.snapshotter.usage(DIR, "a")), Failure::Internal);
    move_staging(host.root.path(), false);
    host
}

#[test]
fn a_layer_that_cannot_be_made_is_told_to_who_waits_and_tried_again_by_the_next() {
    let host = Host::new();
    let s = &host.snapshotter;
    let mounts = s.prepare(DIR, "k", None, Labels::new()).unwrap();
    fs::write(upper_of(&mounts).join("a"), "content of a").unwrap();
    move_staging(host.root.path(), true);
    s.commit(DIR, "a", "k", None, Labels::new()).unwrap();
    for _ in 0..2 {
        let error = s.view(DIR, "v", Some("a"), Labels::new()).unwrap_err();
        assert!(matches!(&error, Error::NotSealed { name, .. } if name == "a"), "{error}");
        assert!(error.to_string().contains("staging"), "{error}");
    }
    assert_eq!(s.stat(DIR, "a").unwrap().kind, Kind::Committed);
    assert_eq!(s.list(DIR).len(), 1);
    move_staging(host.root.path(), false);
    let view = s.view(DIR, "v", Some("a"), Labels::new()).unwrap();
    assert_eq!(read_newest(&view, "/a").unwrap(), "content of a");
    host.assert_consistent();
}

#[test]
fn a_full_disk_is_told_as_such_and_gets_over_it() {
    let test = "a_full_disk_is_told_as_such_and_gets_over_it";
    let small = tempfile::tempdir().unwrap();
    let options = c"size=24m";
    let flags = rustix::mount::MountFlags::empty();
    if let Err(error) = rustix::mount::mount("tmpfs", small.path(), "tmpfs", flags, options) {
        return skip(test, format!("a small file system needs root: {error}"));
    }
    let root = TempDir::new_in(small.path()).unwrap();
    let (medium, _) = crate::store::faults::FaultyMedium::new(root.path().join("metadata.redb"));
    let host = Host::on(root, Box::new(medium));
    let s = &host.snapshotter;
    let mounts = s.prepare(DIR, "k", None, Labels::new()).unwrap();
    fs::write(upper_of(&mounts).join("a"), vec![7; 9 << 20]).unwrap();
    let ballast = host.path("ballast");
    fs::write(&ballast, vec![7; 9 << 20]).unwrap();
    s.commit(DIR, "a", "k", None, Labels::new()).unwrap();
    assert_eq!(kind(s.prepare(DIR, "c", Some("a"), Labels::new())), Failure::ResourceExhausted);
    fs::remove_file(ballast).unwrap();
    s.prepare(DIR, "c", Some("a"), Labels::new()).unwrap();
    host.assert_consistent();
    drop(host);
    crate::unmounting::unmount(small.path());
}

#[test]
fn a_start_makes_the_layers_that_are_missing() {
    let host = unsealed();
    let id = host.snapshotter.record(DIR, "a").unwrap().id;
    let host = host.restarted(|root| {
        assert!(root.join(format!("snapshots/{id}/fs/a")).exists(), "kept until it is a layer");
        // As a kill leaves them.
        fs::create_dir_all(root.join("staging/half")).unwrap();
        fs::create_dir(root.join(format!("layers/w1-{id}"))).unwrap();
    });
    assert_eq!(host.report.swept.len(), 2, "{:?}", host.report);
    let view = host.snapshotter.view(DIR, "v", Some("a"), Labels::new()).unwrap();
    assert_eq!(read_newest(&view, "/a").unwrap(), "content of a");
    host.assert_consistent();
}

#[test]
fn no_layer_is_made_of_a_block_while_a_machine_has_it() {
    let test = "no_layer_is_made_of_a_block_while_a_machine_has_it";
    let host = Host::new();
    let s = &host.snapshotter;
    let mounts = s.prepare(BLOCK, "k", None, Labels::new()).unwrap();
    let block = mounts.iter().map(|mount| Path::new(&mount.source)).find(|source| source.is_file()).unwrap();
    move_staging(host.root.path(), true);
    s.commit(BLOCK, "a", "k", None, Labels::new()).unwrap();
    assert_eq!(kind(s.usage(BLOCK, "a")), Failure::Internal);
    move_staging(host.root.path(), false);
    // Somebody opens it although it was committed.
    let machine = fs::File::options().read(true).write(true).open(block).unwrap();
    assert_eq!(locks::take(&machine).unwrap(), locks::Taken::Now);
    let error = s.usage(BLOCK, "a").unwrap_err();
    assert!(
        matches!(&error, Error::NotSealed { reason, .. } if matches!(**reason, Error::BlockHeld { .. })),
        "{error}"
    );
    drop(machine);
    match s.usage(BLOCK, "a") {
        Err(error) if !rustix::process::geteuid().is_root() => {
            skip(test, format!("mounting needs root: {error}"))
        }
        made => drop(made.unwrap()),
    }
    host.assert_consistent();
}

#[test]
fn a_rebuilt_database_knows_what_is_still_to_be_made() {
    let host = unsealed().restarted(|root| fs::write(root.join("metadata.redb"), "damaged").unwrap());
    assert!(host.report.rebuilt && host.report.missing.is_empty(), "{:?}", host.report);
    let view = host.snapshotter.view(DIR, "v", Some("a"), Labels::new()).unwrap();
    assert_eq!(read_newest(&view, "/a").unwrap(), "content of a");
    host.assert_consistent();
}

#[test]
fn what_was_lost_before_it_was_a_layer_is_no_empty_layer() {
    let host = unsealed().restarted(|root| fs::remove_dir_all(root.join("snapshots")).unwrap());
    let lost = |missing: &Missing| matches!(missing, Missing::Directory { remade: false, .. });
    assert!(host.report.missing.iter().any(lost), "{:?}", host.report);
    let error = host.snapshotter.prepare(DIR, "c", Some("a"), Labels::new()).unwrap_err();
    assert_eq!(crate::error::Classify::kind(&error), Failure::DataLoss, "{error}");
    host.snapshotter.remove(DIR, "a").unwrap();
    host.assert_consistent();
}

#[test]
fn what_is_removed_before_it_is_a_layer_leaves_nothing() {
    let host = Host::new();
    let s = &host.snapshotter;
    for round in 0..20 {
        let mounts = s.prepare(DIR, "k", None, Labels::new()).unwrap();
        fs::write(upper_of(&mounts).join("large"), vec![round; 8 << 20]).unwrap();
        s.commit(DIR, "a", "k", None, Labels::new()).unwrap();
        let waiting = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| s.prepare(DIR, "c", Some("a"), Labels::new()));
            s.remove(DIR, "a").ok();
            waiting.join().unwrap()
        });
        match waiting {
            // The layer was made before, and now has a child.
            Ok(_) => ["c", "a"].iter().for_each(|key| s.remove(DIR, key).unwrap()),
            Err(error) => assert!(matches!(error, Error::ParentNotFound { .. }), "{error}"),
        }
        let _ = s.remove(DIR, "a");
        assert!(s.list(DIR).is_empty());
    }
    drop(host.restart().on_disk());
}

#[test]
fn a_stop_leaves_a_long_conversion_to_the_next_start() {
    let host = Host::new();
    for name in ["a", "b", "c", "d"] {
        let mounts = host.snapshotter.prepare(DIR, name, None, Labels::new()).unwrap();
        (0..200).for_each(|n| fs::write(upper_of(&mounts).join(n.to_string()), vec![1; 50_000]).unwrap());
        host.snapshotter.commit(DIR, &format!("{name} done"), name, None, Labels::new()).unwrap();
    }
    let host = host.restart();
    for name in ["a", "b", "c", "d"] {
        let parent = format!("{name} done");
        host.snapshotter.prepare(DIR, name, Some(&parent), Labels::new()).unwrap();
    }
    host.assert_consistent();
}

#[test]
fn who_waits_for_a_layer_is_told_that_the_daemon_stops() {
    let host = Host::new();
    let s = &host.snapshotter;
    let mounts = s.prepare(DIR, "k", None, Labels::new()).unwrap();
    fs::write(upper_of(&mounts).join("a"), "content of a").unwrap();
    s.stop_sealing();
    s.commit(DIR, "a", "k", None, Labels::new()).unwrap();
    assert_eq!(kind(s.prepare(DIR, "c", Some("a"), Labels::new())), Failure::Unavailable);
    assert_eq!(s.list(DIR).len(), 1);
    let host = host.restart();
    let view = host.snapshotter.view(DIR, "v", Some("a"), Labels::new()).unwrap();
    assert_eq!(read_newest(&view, "/a").unwrap(), "content of a");
}

/// A root with a committed snapshot, and one on it that was written to.
fn populated() -> TempDir {
    let host = Host::new();
    commit_file(&host, "a", None);
    let mounts = host.snapshotter.prepare(DIR, "k", Some("a"), Labels::new()).unwrap();
    fs::write(upper_of(&mounts).join("b"), "content of b").unwrap();
    host.snapshotter.cleanup().unwrap();
    let Host { root, .. } = host;
    root
}

/// Commits what was written, and waits until it is a layer.
fn commit(host: &Host) -> Result<(), Error> {
    let s = &host.snapshotter;
    s.commit(DIR, "b", "k", None, Labels::new())?;
    s.usage(DIR, "b").map(drop)
}

/// Asserts that what was written is there: in an active snapshot, or in a committed one and its layer.
fn assert_kept(host: &Host, case: &str) -> Kind {
    let s = &host.snapshotter;
    let kind = match s.mounts(DIR, "k") {
        Ok(mounts) => {
            assert!(s.stat(DIR, "b").is_err(), "{case}");
            assert_eq!(fs::read(upper_of(&mounts).join("b")).unwrap(), b"content of b", "{case}");
            Kind::Active
        }
        Err(_) => {
            let view = s.view(DIR, "v", Some("b"), Labels::new()).unwrap();
            assert_eq!(read_newest(&view, "/b").unwrap(), "content of b", "{case}");
            s.remove(DIR, "v").unwrap();
            Kind::Committed
        }
    };
    host.assert_consistent();
    kind
}

#[test]
fn a_kill_at_any_step_loses_nothing_that_was_written() {
    let template = populated();
    let (host, script) = faulty(template.path());
    let copies: Arc<Mutex<Vec<TempDir>>> = Arc::default();
    let (from, to) = (host.root.path().to_owned(), Arc::clone(&copies));
    script.observe(move || {
        let copy = tempfile::tempdir().unwrap();
        copy_tree(&from, copy.path());
        to.lock().unwrap().push(copy);
    });
    commit(&host).unwrap();
    script.ignore();
    let copies = std::mem::take(&mut *copies.lock().unwrap());
    assert!(copies.len() > 8, "{} steps seen", copies.len());
    let mut reached = Vec::new();
    for (step, copy) in copies.into_iter().enumerate() {
        let (snapshotter, report) = Snapshotter::open(settings(copy.path())).unwrap();
        let host = Host { root: copy, snapshotter, report };
        assert!(host.report.missing.is_empty() && !host.report.rebuilt, "step {step}: {:?}", host.report);
        reached.push(assert_kept(&host, &format!("step {step}")) == Kind::Committed);
    }
    assert!(reached.is_sorted(), "{reached:?}");
    assert_eq!((reached.first(), reached.last()), (Some(&false), Some(&true)), "{reached:?}");
}

#[test]
fn a_full_disk_at_any_step_of_the_records_loses_nothing_that_was_written() {
    let template = populated();
    let mut fault = 0;
    loop {
        let (host, script) = faulty(template.path());
        script.fail(fault..fault + 1);
        let result = commit(&host);
        let hit = script.done() > fault;
        script.fail(0..0);
        assert!(hit || result.is_ok(), "{result:?}");
        let case = format!("fault {fault}");
        let found = assert_kept(&host, &case);
        let host = host.restart();
        assert_eq!(assert_kept(&host, &case), found);
        if !hit {
            break;
        }
        fault += 1;
    }
    assert!(fault > 4, "{fault} faults");
}
