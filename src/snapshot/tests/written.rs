//! Commits of what was written: rules, and what the layers hold.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{FileType, Mode, mknodat};

use super::host::{BLOCK, DIR, Host, Layer, extraction_labels, kind};
use super::plan::{self, upper_of};
use crate::error::Kind as Failure;
use crate::expose::idmap::{GID_LABEL, UID_LABEL};
use crate::expose::mount::Mount;
use crate::skipped::skip;
use crate::snapshot::{Error, Kind, Labels};

/// Commits as `name`, on `parent`, a snapshot with a file of this name.
pub(super) fn commit_file(host: &Host, name: &str, parent: Option<&str>) {
    let key = format!("write {name}");
    let mounts = host.snapshotter.prepare(DIR, &key, parent, Labels::new()).unwrap();
    fs::write(upper_of(&mounts).join(name), format!("content of {name}")).unwrap();
    host.snapshotter.commit(DIR, name, &key, None, Labels::new()).unwrap();
}

/// A file in the newest layer of a plan.
pub(super) fn read_newest(mounts: &[Mount], path: &str) -> std::io::Result<String> {
    let layer = mounts.iter().find(|mount| mount.fstype == "erofs").unwrap();
    read_layer(Path::new(&layer.source), path)
}

/// A file in a layer, through a reader that shares no code with the writer.
fn read_layer(image: &Path, path: &str) -> std::io::Result<String> {
    let image = fs::read(image)?;
    let fs =
        erofs_rs::EroFS::new(erofs_rs::backend::SliceImage::new(&image)).map_err(std::io::Error::other)?;
    let mut text = String::new();
    fs.open(path).map_err(std::io::Error::other)?.read_to_string(&mut text)?;
    Ok(text)
}

fn layers(mounts: &[Mount]) -> usize {
    mounts.iter().filter(|mount| mount.fstype == "erofs").count()
}

#[test]
fn what_was_written_is_a_layer_for_who_builds_on_it() {
    let host = Host::new();
    let s = &host.snapshotter;
    commit_file(&host, "a", None);
    let info = s.stat(DIR, "a").unwrap();
    assert_eq!((info.kind, info.parent), (Kind::Committed, None));
    assert_eq!(kind(s.mounts(DIR, "a")), Failure::FailedPrecondition);
    commit_file(&host, "b", Some("a"));
    let view = s.view(DIR, "view", Some("b"), Labels::new()).unwrap();
    assert_eq!(layers(&view), 2);
    assert_eq!(read_newest(&view, "/b").unwrap(), "content of b");
    assert_eq!(read_newest(&view[1..], "/a").unwrap(), "content of a");
    let id = s.record(DIR, "b").unwrap().id;
    assert_eq!(view[0].source, host.path(&format!("layers/w1-{id}/layer.erofs")).to_str().unwrap());
    host.assert_consistent();
    for key in ["view", "b", "a"] {
        s.remove(DIR, key).unwrap();
    }
    host.assert_consistent();
    assert!(host.on_disk().1.is_empty());
}

#[test]
fn nothing_written_is_an_empty_layer() {
    let host = Host::new();
    let s = &host.snapshotter;
    for (key, parent, labels) in [
        ("bottom", None, Labels::new()),
        ("top", Some("bottom done"), Labels::new()),
        ("e", None, extraction_labels("e")),
    ] {
        s.prepare(DIR, key, parent, labels).unwrap();
        s.commit(DIR, &format!("{key} done"), key, None, Labels::new()).unwrap();
        let view = s.view(DIR, &format!("{key} view"), Some(&format!("{key} done")), Labels::new()).unwrap();
        assert!(read_newest(&view, "/file").is_err());
    }
    host.assert_consistent();
}

#[test]
fn an_extraction_that_another_differ_filled_is_a_layer() {
    let host = Host::new();
    let s = &host.snapshotter;
    host.commit_layer(DIR, "a", None, &Layer::new("a"));
    let upper = upper_of(&host.extraction(DIR, "k", "b"));
    fs::write(upper.join("file"), "extracted").unwrap();
    let whiteout = upper.join("whiteout");
    if let Err(error) = mknodat(rustix::fs::CWD, &whiteout, FileType::CharacterDevice, Mode::empty(), 0) {
        skip("an_extraction_that_another_differ_filled_is_a_layer (whiteouts)", error);
    }
    s.commit(DIR, "b", "k", Some("a"), extraction_labels("b")).unwrap();
    assert_eq!(s.stat(DIR, "b").unwrap().parent.as_deref(), Some("a"));
    let view = s.view(DIR, "v", Some("b"), Labels::new()).unwrap();
    assert_eq!((layers(&view), read_newest(&view, "/file").unwrap().as_str()), (2, "extracted"));
    host.assert_consistent();
}

#[test]
fn snapshots_are_committed_onto_one_another_before_any_layer_is_made() {
    let host = Host::new();
    let s = &host.snapshotter;
    for name in ["a", "b", "c"] {
        let mounts = s.prepare(DIR, &format!("k{name}"), None, Labels::new()).unwrap();
        fs::write(upper_of(&mounts).join(name), vec![1; 3 << 20]).unwrap();
    }
    for (name, parent) in [("a", None), ("b", Some("a")), ("c", Some("b"))] {
        s.commit(DIR, name, &format!("k{name}"), parent, Labels::new()).unwrap();
    }
    assert_eq!(layers(&s.prepare(DIR, "top", Some("c"), Labels::new()).unwrap()), 3);
    host.assert_consistent();
}

#[test]
fn a_child_gets_the_root_that_was_written() {
    let host = Host::new();
    let s = &host.snapshotter;
    let upper = upper_of(&s.prepare(DIR, "k", None, Labels::new()).unwrap());
    fs::set_permissions(&upper, fs::Permissions::from_mode(0o1750)).unwrap();
    s.commit(DIR, "a", "k", None, Labels::new()).unwrap();
    let upper = upper_of(&s.prepare(DIR, "child", Some("a"), Labels::new()).unwrap());
    assert_eq!(fs::metadata(upper).unwrap().permissions().mode() & 0o7777, 0o1750);
}

#[test]
fn usage_is_what_is_written_and_then_what_the_layer_takes() {
    let host = Host::new();
    let s = &host.snapshotter;
    let upper = upper_of(&s.prepare(DIR, "k", None, Labels::new()).unwrap());
    for number in 0..10 {
        fs::write(upper.join(number.to_string()), vec![number; 100_000]).unwrap();
    }
    File::open(&upper).and_then(|upper| Ok(rustix::fs::syncfs(upper)?)).unwrap();
    let before = s.usage(DIR, "k").unwrap();
    assert_eq!(before.inodes, 11);
    assert!(before.bytes >= 1_000_000);
    s.commit(DIR, "a", "k", None, Labels::new()).unwrap();
    let after = s.usage(DIR, "a").unwrap();
    let id = s.record(DIR, "a").unwrap().id;
    let stat = rustix::fs::stat(host.path(&format!("layers/w1-{id}/layer.erofs"))).unwrap();
    assert_eq!((after.bytes, after.inodes), (stat.st_blocks as u64 * 512, 1));
    assert!(after.bytes >= 1_000_000);
}

#[test]
fn writes_beside_an_applied_layer_are_still_refused() {
    let host = Host::new();
    let s = &host.snapshotter;
    let mounts = s.prepare(DIR, "k", None, Labels::new()).unwrap();
    host.build(&host.claim(&mounts), &Layer::new("a")).unwrap();
    fs::write(upper_of(&mounts).join("file"), "x").unwrap();
    assert!(matches!(s.commit(DIR, "a", "k", None, Labels::new()), Err(Error::Written { .. })));
}

#[test]
fn a_layer_has_the_owners_that_a_container_with_a_user_namespace_saw() {
    use std::os::unix::fs::chown;
    let host = Host::new();
    let s = &host.snapshotter;
    let mapping = |label: &str, map: &str| (label.to_owned(), map.to_owned());
    let labels = Labels::from([mapping(UID_LABEL, "0:100000:65536"), mapping(GID_LABEL, "0:200000:65536")]);
    let upper = upper_of(&s.prepare(DIR, "k", None, labels).unwrap());
    fs::write(upper.join("file"), "x").unwrap();
    if let Err(error) = chown(upper.join("file"), Some(100_033), Some(200_005)) {
        return skip("a_layer_has_the_owners_that_a_container_with_a_user_namespace_saw", error);
    }
    s.commit(DIR, "a", "k", None, Labels::new()).unwrap();
    let view = s.view(DIR, "v", Some("a"), Labels::new()).unwrap();
    let image = fs::read(&view[0].source).unwrap();
    let image = erofs_rs::EroFS::new(erofs_rs::backend::SliceImage::new(&image)).unwrap();
    let entries = image.walk_dir("/").unwrap().map(Result::unwrap);
    let owners: Vec<_> = entries.map(|entry| (entry.inode.uid(), entry.inode.gid())).collect();
    assert_eq!(owners, [(33, 5)]);
    let root = upper_of(&s.prepare(DIR, "child", Some("a"), Labels::new()).unwrap());
    assert_eq!(
        fs::metadata(root).unwrap().uid(),
        0,
        "the container's root, not the host's identifier for it"
    );
}

/// A writable block, and how tests get at what is in it.
struct Block {
    mounts: Vec<Mount>,
}

impl Block {
    fn prepare(host: &Host, key: &str) -> Self {
        Self { mounts: host.snapshotter.prepare(BLOCK, key, None, Labels::new()).unwrap() }
    }

    fn path(&self) -> &Path {
        Path::new(&self.mounts[0].source)
    }

    /// Mounts the block as containerd does. None, and a word about it, where that cannot be.
    fn mount(&self, test: &str) -> Option<plan::Mounted> {
        let mounted = plan::Mounted::new(&self.mounts);
        mounted.map_err(|error| skip(test, format!("no block can be mounted (needs root): {error}"))).ok()
    }
}

fn write(mounted: &plan::Mounted, name: &str, text: &str) {
    fs::write(mounted.top().join(name), text).unwrap();
}

fn committed_file(host: &Host, name: &str, path: &str) -> std::io::Result<String> {
    let view = host.snapshotter.view(BLOCK, &format!("view {name}"), Some(name), Labels::new()).unwrap();
    read_newest(&view, path)
}

#[test]
fn a_block_that_was_unmounted_is_a_layer() {
    let host = Host::new();
    let block = Block::prepare(&host, "k");
    let Some(mounted) = block.mount("a_block_that_was_unmounted_is_a_layer") else { return };
    write(&mounted, "file", "in a block");
    drop(mounted);
    let before = host.snapshotter.usage(BLOCK, "k").unwrap();
    assert!(before.bytes > 0 && before.inodes == 1);
    host.snapshotter.commit(BLOCK, "a", "k", None, Labels::new()).unwrap();
    assert_eq!(committed_file(&host, "a", "/file").unwrap(), "in a block");
    host.assert_consistent();
    assert!(!block.path().exists());
}

#[test]
fn a_block_that_was_never_mounted_is_an_empty_layer() {
    let host = Host::new();
    let block = Block::prepare(&host, "k");
    let Some(mounted) = block.mount("a_block_that_was_never_mounted_is_an_empty_layer") else { return };
    drop(mounted);
    let other = Block::prepare(&host, "never");
    host.snapshotter.commit(BLOCK, "a", "never", None, Labels::new()).unwrap();
    assert!(committed_file(&host, "a", "/file").is_err());
    host.snapshotter.cleanup().unwrap();
    assert!(!other.path().exists());
}

#[test]
fn a_block_that_is_still_mounted_gives_what_has_not_reached_it_yet() {
    let host = Host::new();
    let block = Block::prepare(&host, "k");
    let Some(mounted) = block.mount("a_block_that_is_still_mounted_gives_what_has_not_reached_it_yet") else {
        return;
    };
    write(&mounted, "file", "not written back");
    host.snapshotter.commit(BLOCK, "a", "k", None, Labels::new()).unwrap();
    assert_eq!(committed_file(&host, "a", "/file").unwrap(), "not written back");
    drop(mounted);
    host.assert_consistent();
}

#[test]
fn a_block_whose_journal_did_not_end_is_replayed() {
    let host = Host::new();
    let block = Block::prepare(&host, "k");
    let Some(mounted) = block.mount("a_block_whose_journal_did_not_end_is_replayed") else { return };
    write(&mounted, "file", "in the journal");
    File::open(mounted.top()).and_then(|top| Ok(rustix::fs::syncfs(top)?)).unwrap();
    // What a machine leaves that loses its power now.
    let torn = block.path().with_extension("torn");
    fs::copy(block.path(), &torn).unwrap();
    drop(mounted);
    fs::rename(&torn, block.path()).unwrap();
    host.snapshotter.commit(BLOCK, "a", "k", None, Labels::new()).unwrap();
    assert_eq!(committed_file(&host, "a", "/file").unwrap(), "in the journal");
}

#[test]
fn a_block_that_a_virtual_machine_holds_is_committed_only_if_quiesced() {
    use rustix::fs::{FlockOperation, flock};
    let host = Host::new();
    let s = &host.snapshotter;
    let block = Block::prepare(&host, "k");
    let held = File::options().read(true).write(true).open(block.path()).unwrap();
    flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
    let error = s.commit(BLOCK, "a", "k", None, Labels::new()).unwrap_err();
    assert!(matches!(error, Error::BlockHeld { .. }), "{error}");
    assert_eq!(s.stat(BLOCK, "k").unwrap().kind, Kind::Active);
    let quiesced = Labels::from([(crate::snapshot::model::QUIESCED_LABEL.to_owned(), "true".to_owned())]);
    s.update(BLOCK, "k", crate::snapshot::LabelChange::Set(quiesced)).unwrap();
    match s.commit(BLOCK, "a", "k", None, Labels::new()) {
        Ok(()) => {
            assert!(
                s.record(BLOCK, "a").unwrap().unsealed().is_none(),
                "the guest goes on when this returns"
            );
            assert!(committed_file(&host, "a", "/file").is_err());
            host.assert_consistent();
        }
        Err(error) if rustix::process::geteuid().is_root() => panic!("{error}"),
        Err(error) => skip("a_block_that_a_virtual_machine_holds_is_committed_only_if_quiesced", error),
    }
}
