//! Limits of directories, by the project quotas of the file system below.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::thread;

use nexuserofs::config::ProjectQuota;
use nexuserofs::error::{Classify as _, Kind};
use nexuserofs::snapshot::Labels;
use rustix::io::Errno;
use rustix::thread::CapabilitySet;
use tempfile::TempDir;

use crate::archive::Entry;
use crate::node::{Container, DIR, Node, commit, open, unmount_all};
use crate::skipped::skip;
use crate::unmounting::unmount;

const LIMIT: u64 = 8 << 20;

fn limited() -> Labels {
    Labels::from([("containerd.io/snapshot/max-size".to_owned(), LIMIT.to_string())])
}

#[test]
fn where_there_are_no_quotas_a_profile_says_what_becomes_of_a_limit() {
    let root = tempfile::tempdir().unwrap();
    for (wanted, refused) in
        [(ProjectQuota::Off, false), (ProjectQuota::Auto, false), (ProjectQuota::Require, true)]
    {
        let directory = root.path().join(format!("{wanted:?}"));
        let snapshotter = open(&directory, wanted);
        let prepared = snapshotter.prepare(DIR, "key", None, limited());
        // A machine whose temporary files are on a file system with project quotas refuses nothing.
        if let Err(error) = &prepared {
            assert_eq!(error.kind(), Kind::FailedPrecondition, "{error}");
        }
        assert!(refused || prepared.is_ok(), "{wanted:?}");
        let nonsense = Labels::from([("containerd.io/snapshot/max-size".to_owned(), "8MiB".to_owned())]);
        let error = snapshotter.prepare(DIR, "other", None, nonsense).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument, "{error}");
    }
}

/// A file system with project quotas in a file, unmounted when dropped.
struct Quotas {
    directory: TempDir,
}

impl Quotas {
    /// None where the kernel or the tools have none, which is said under the name of the test.
    fn mount(test: &str, fstype: &str, format: &[&str]) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let (image, point) = (directory.path().join("image"), directory.path().join("mounted"));
        File::create(&image).unwrap().set_len(512 << 20).unwrap();
        fs::create_dir(&point).unwrap();
        let program = format!("mkfs.{fstype}");
        match Command::new(&program).args(format).arg(&image).output() {
            Ok(output) if output.status.success() => {}
            other => {
                skip(test, format!("{program} does not make such a file system: {other:?}"));
                return None;
            }
        }
        let mount = Command::new("mount")
            .args(["-t", fstype, "-o", "loop,prjquota"])
            .arg(&image)
            .arg(&point)
            .output();
        match mount {
            Ok(output) if output.status.success() => Some(Self { directory }),
            other => {
                skip(test, format!("the kernel mounts no {fstype} with project quotas: {other:?}"));
                None
            }
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("mounted")
    }
}

impl Drop for Quotas {
    fn drop(&mut self) {
        // The layers that the snapshotter mounted.
        unmount_all(&self.path());
        unmount(&self.path());
    }
}

/// Writes 1 MiB after the other as a container's process does, without the right to pass limits. Returns
/// how many there were and why there are no more.
fn fill(file: &Path) -> (u64, Option<Errno>) {
    let file = file.to_owned();
    let writer = move || {
        // Rights are the thread's own.
        let mut rights = rustix::thread::capabilities(None).unwrap();
        rights.effective.remove(CapabilitySet::SYS_RESOURCE);
        rustix::thread::set_capabilities(None, rights).unwrap();
        write_all(&file)
    };
    thread::spawn(writer).join().unwrap()
}

fn write_all(file: &Path) -> (u64, Option<Errno>) {
    let mut file = File::create(file).unwrap();
    for written in 0..64 {
        if let Err(error) = file.write_all(&[1; 1 << 20]).and_then(|()| file.sync_data()) {
            return (written, Errno::from_io_error(&error));
        }
    }
    (64, None)
}

fn assert_limited((written, reason): (u64, Option<Errno>)) {
    assert!(matches!(reason, Some(Errno::DQUOT | Errno::NOSPC)), "{written} MiB, then {reason:?}");
    assert!(written <= LIMIT >> 20, "{written} MiB");
}

fn assert_limits(quotas: &Quotas) {
    let root = quotas.path().join("root");
    let snapshotter = open(&root, ProjectQuota::Require);
    commit(&snapshotter, DIR, "image", None, &[Entry::file("one", "a")]);
    let overlaid = Container::new(&snapshotter.prepare(DIR, "overlaid", Some("image"), limited()).unwrap());
    assert_limited(fill(&overlaid.path("file")));
    let full = Container::new(&snapshotter.prepare(DIR, "full", None, limited()).unwrap());
    let other = Container::new(&snapshotter.prepare(DIR, "other", None, limited()).unwrap());
    assert_limited(fill(&full.path("file")));
    fs::write(other.path("file"), vec![1; 1 << 20]).unwrap();
    drop((full, other));
    // A name that was limited once is not when it is made anew.
    snapshotter.remove(DIR, "full").unwrap();
    snapshotter.cleanup().unwrap();
    let free = Container::new(&snapshotter.prepare(DIR, "full", None, Labels::new()).unwrap());
    assert_eq!(fill(&free.path("file")), (64, None));
}

#[test]
fn xfs_limits_a_directory_and_nobody_else() {
    let test = "xfs_limits_a_directory_and_nobody_else";
    if Node::start(test).is_none() {
        return;
    }
    let Some(quotas) = Quotas::mount(test, "xfs", &["-q"]) else { return };
    assert_limits(&quotas);
}

#[test]
fn ext4_limits_a_directory_and_nobody_else() {
    let test = "ext4_limits_a_directory_and_nobody_else";
    if Node::start(test).is_none() {
        return;
    }
    let Some(quotas) = Quotas::mount(test, "ext4", &["-q", "-O", "project,quota"]) else { return };
    assert_limits(&quotas);
}
