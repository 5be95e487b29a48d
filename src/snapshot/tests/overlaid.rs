//! What a container sees before a commit is what is seen afterwards: random changes through a real overlay,
//! over several commits, in directory and in block mode.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use rustix::fs::XattrFlags;

use super::host::{BLOCK, DIR, Host};
use super::plan::Mounted;
use crate::skipped::skip;
use crate::snapshot::Labels;

/// A change of a tree. One that the file system refuses is none.
#[derive(Clone, Debug)]
enum Change {
    MakeDirectory(PathBuf),
    Write(PathBuf, u8, usize),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
    SymbolicLink(PathBuf),
    HardLink(PathBuf, PathBuf),
    Mode(PathBuf, u32),
    Attribute(PathBuf, u8),
}

impl Change {
    fn make(&self, top: &Path) {
        let _ = match self {
            Self::MakeDirectory(path) => fs::create_dir_all(top.join(path)),
            Self::Write(path, byte, size) => fs::write(top.join(path), vec![*byte; *size]),
            Self::Remove(path) => {
                fs::remove_file(top.join(path)).or_else(|_| fs::remove_dir_all(top.join(path)))
            }
            Self::Rename(from, to) => fs::rename(top.join(from), top.join(to)),
            Self::SymbolicLink(path) => symlink("target", top.join(path)),
            Self::HardLink(from, to) => fs::hard_link(top.join(from), top.join(to)),
            Self::Mode(path, mode) => fs::set_permissions(top.join(path), PermissionsExt::from_mode(*mode)),
            Self::Attribute(path, value) => {
                let set =
                    rustix::fs::lsetxattr(top.join(path), "trusted.own", &[*value], XattrFlags::empty());
                set.map_err(Into::into)
            }
        };
    }
}

fn any_changes() -> impl Strategy<Value = Vec<Change>> {
    // Few names, so that changes meet. The empty path is the top.
    let path = prop::collection::vec("[abc]", 1..4).prop_map(|names| names.iter().collect::<PathBuf>());
    let mode = prop_oneof![Just(0o755), Just(0o1777), Just(0o4750), Just(0o600)];
    let change = prop_oneof![
        4 => path.clone().prop_map(Change::MakeDirectory),
        6 => (path.clone(), any::<u8>(), 0..9000_usize).prop_map(|(path, byte, size)| Change::Write(path, byte, size)),
        4 => path.clone().prop_map(Change::Remove),
        3 => (path.clone(), path.clone()).prop_map(|(from, to)| Change::Rename(from, to)),
        1 => path.clone().prop_map(Change::SymbolicLink),
        1 => (path.clone(), path.clone()).prop_map(|(from, to)| Change::HardLink(from, to)),
        1 => (prop_oneof![Just(PathBuf::new()), path.clone()], mode).prop_map(|(path, mode)| Change::Mode(path, mode)),
        1 => (path, any::<u8>()).prop_map(|(path, value)| Change::Attribute(path, value)),
    ];
    prop::collection::vec(change, 1..25)
}

/// Type, mode, owner, time, content or target, and an attribute.
type Seen = (u32, u32, (i64, i64), Vec<u8>, Option<Vec<u8>>);

/// Everything below `top`, by path.
fn look(top: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut seen = BTreeMap::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(path) = pending.pop() {
        let full = top.join(&path);
        let status = fs::symlink_metadata(&full).unwrap();
        let mut content = Vec::new();
        if status.is_dir() {
            pending.extend(fs::read_dir(&full).unwrap().map(|entry| path.join(entry.unwrap().file_name())));
        } else if status.is_symlink() {
            content = fs::read_link(&full).unwrap().into_os_string().into_vec();
        } else {
            content = fs::read(&full).unwrap();
        }
        let mut value = [0; 8];
        let length = rustix::fs::lgetxattr(&full, "trusted.own", &mut value[..]);
        let attribute = length.ok().map(|length| value[..length].to_vec());
        let time = (status.mtime(), status.mtime_nsec());
        seen.insert(path, (status.mode(), status.uid(), time, content, attribute));
    }
    seen
}

#[test]
fn what_was_seen_before_a_commit_is_seen_after_it() {
    let test = "what_was_seen_before_a_commit_is_seen_after_it";
    let host = Host::new();
    let s = &host.snapshotter;
    let mut runner = TestRunner::deterministic();
    for case in 0..12 {
        for profile in [DIR, BLOCK] {
            let mut parent = None;
            for round in 0..3 {
                let changes = any_changes().new_tree(&mut runner).unwrap().current();
                let key = format!("{case} {round}");
                let plan = s.prepare(profile, &key, parent.as_deref(), Labels::new()).unwrap();
                let mounted = match Mounted::new(&plan) {
                    Ok(mounted) => mounted,
                    Err(error) => {
                        return skip(
                            test,
                            format!("a plan cannot be mounted (needs root and Linux 6.12): {error}"),
                        );
                    }
                };
                changes.iter().for_each(|change| change.make(mounted.top()));
                let before = look(mounted.top());
                drop(mounted);
                let name = format!("{key} done");
                s.commit(profile, &name, &key, None, Labels::new()).unwrap();
                let view = s.view(profile, &format!("{key} view"), Some(&name), Labels::new()).unwrap();
                let after = look(Mounted::new(&view).unwrap().top());
                assert_eq!(after, before, "{profile}, case {case}, round {round}: {changes:?}");
                parent = Some(name);
            }
        }
    }
    host.assert_consistent();
}
