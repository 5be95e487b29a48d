//! A snapshotter on a root of its own, and the one who mounts its plans.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use nexuserofs::config::{Flavour, Layers, ProjectQuota, VerityMode};
use nexuserofs::expose::mount::Mount;
use nexuserofs::image::digest::Digest;
use nexuserofs::layer::{HashTree, LayerRecord, Protection, build};
use nexuserofs::snapshot::{Labels, Profile, RecoveryReport, SnapshotSettings, Snapshotter};
use rustix::mount::MountFlags;
use rustix::thread::UnshareFlags;
use tempfile::TempDir;

use crate::archive::{Entry, archive};
use crate::skipped::skip;
use crate::unmounting::unmount;

/// Profile in directory mode.
pub(crate) const DIR: &str = "dir";
/// Profile in block mode.
pub(crate) const BLOCK: &str = "block";
pub(crate) const BLOCK_SIZE: u64 = 32 << 20;
/// Profile in directory mode that has its layers merged.
pub(crate) const MERGED: &str = "merged";
/// Profile in directory mode whose layers have hash trees and are checked.
pub(crate) const CHECKED: &str = "checked";
/// The same, if the kernel can.
pub(crate) const IF_POSSIBLE: &str = "if-possible";

/// A snapshotter in the host flavour. What it mounted is unmounted when it is dropped.
pub(crate) struct Node {
    root: TempDir,
    snapshotter: Option<Snapshotter>,
    pub(crate) report: RecoveryReport,
}

/// A line of `/proc/self/mountinfo` below the root: what kind of file system is mounted where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mounted {
    /// Relative to the root.
    pub(crate) point: String,
    pub(crate) fstype: String,
    /// The kernel's number of the mount, never given twice while one lives.
    pub(crate) id: u64,
}

impl Node {
    /// None where nothing can be mounted, which is said under the name of the test.
    pub(crate) fn start(test: &str) -> Option<Self> {
        let root = tempfile::tempdir().unwrap();
        if let Err(error) = rustix::mount::mount_bind(root.path(), root.path()) {
            skip(test, format!("mounting needs CAP_SYS_ADMIN: {error}"));
            return None;
        }
        unmount(root.path());
        let (snapshotter, report) = Snapshotter::open(settings(root.path())).unwrap();
        Some(Self { root, snapshotter: Some(snapshotter), report })
    }

    pub(crate) fn snapshotter(&self) -> &Snapshotter {
        self.snapshotter.as_ref().unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Ends the snapshotter, and starts another one after `between`.
    pub(crate) fn restart(&mut self, between: impl FnOnce(&Path)) {
        drop(self.snapshotter.take());
        between(self.root.path());
        let (snapshotter, report) = Snapshotter::open(settings(self.root.path())).unwrap();
        (self.snapshotter, self.report) = (Some(snapshotter), report);
    }

    /// Commits a layer with these entries as `name` on `parent`.
    pub(crate) fn commit(&self, profile: &str, name: &str, parent: Option<&str>, entries: &[Entry]) {
        commit(self.snapshotter(), profile, name, parent, entries);
    }

    /// Three layers that can be told apart: the last commit is `c`.
    pub(crate) fn image(&self, profile: &str) -> &'static str {
        let file = |path: &str, body: &str| Entry::file(path, body);
        self.commit(profile, "a", None, &[file("one", "a"), file("two", "a"), file("gone", "a")]);
        self.commit(profile, "b", Some("a"), &[file("two", "b"), file(".wh.gone", "")]);
        self.commit(profile, "c", Some("b"), &[file("three", "c"), Entry::directory("./").mode(0o1777)]);
        "c"
    }

    pub(crate) fn prepare(&self, profile: &str, key: &str, parent: Option<&str>) -> Vec<Mount> {
        self.snapshotter().prepare(profile, key, parent, Labels::new()).unwrap()
    }

    pub(crate) fn view(&self, profile: &str, key: &str, parent: Option<&str>) -> Vec<Mount> {
        self.snapshotter().view(profile, key, parent, Labels::new()).unwrap()
    }

    /// What is mounted below the root.
    pub(crate) fn mounted(&self) -> Vec<Mounted> {
        mounted_below(self.root.path())
    }

    /// The mounted layers.
    pub(crate) fn layers(&self) -> Vec<Mounted> {
        let mut mounted = self.mounted();
        mounted.retain(|mounted| mounted.point.starts_with("mnt/"));
        mounted
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.snapshotter.take());
        unmount_all(self.root.path());
    }
}

/// Commits a layer with these entries as `name` on `parent`.
pub(crate) fn commit(
    snapshotter: &Snapshotter,
    profile: &str,
    name: &str,
    parent: Option<&str>,
    entries: &[Entry],
) {
    let tar = archive(entries);
    let labels = Labels::from([("containerd.io/snapshot.ref".to_owned(), name.to_owned())]);
    let key = format!("extract {name}");
    let mounts = snapshotter.prepare(profile, &key, parent, labels).unwrap();
    let claim = snapshotter.claim(&mounts).unwrap().unwrap();
    let staging = snapshotter.staging().unwrap();
    let diff_id = Digest::of(&tar);
    // The daemon would make trees for all, if one profile wants them.
    let tree = if [CHECKED, IF_POSSIBLE].contains(&profile) { HashTree::With } else { HashTree::Without };
    let built =
        build::read(&mut tar.as_slice(), &staging.layer_path(), tree).unwrap().seal(&diff_id).unwrap();
    let record =
        LayerRecord::from_tar(diff_id, tar.len() as u64, built.image_bytes, built.root, Digest::of(&tar))
            .with_verity(built.verity);
    snapshotter.attach_built(&claim, staging, record).unwrap();
    drop(claim);
    snapshotter.commit(profile, name, &key, None, Labels::new()).unwrap();
}

/// A snapshotter on any directory.
pub(crate) fn open(root: &Path, project_quota: ProjectQuota) -> Snapshotter {
    let profile = Profile { flavour: Flavour::Host, project_quota, ..Profile::default() };
    let profiles = BTreeMap::from([(DIR.to_owned(), profile)]);
    let root = root.to_str().unwrap().parse().unwrap();
    Snapshotter::open(SnapshotSettings { root, protection: Protection::default(), profiles }).unwrap().0
}

fn settings(root: &Path) -> SnapshotSettings {
    let profile = |default_size| Profile { flavour: Flavour::Host, default_size, ..Profile::default() };
    let verity = |verity| Profile { verity, ..profile(0) };
    let profiles = BTreeMap::from([
        (DIR.to_owned(), profile(0)),
        (BLOCK.to_owned(), profile(BLOCK_SIZE)),
        (MERGED.to_owned(), Profile { layers: Layers::Merged, ..profile(0) }),
        (CHECKED.to_owned(), verity(VerityMode::Require)),
        (IF_POSSIBLE.to_owned(), verity(VerityMode::Auto)),
    ]);
    SnapshotSettings {
        root: root.to_str().unwrap().parse().unwrap(),
        protection: Protection::default(),
        profiles,
    }
}

pub(crate) fn mounted_below(root: &Path) -> Vec<Mounted> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let entry = |line: &str| {
        let fields: Vec<&str> = line.split(' ').collect();
        let point = Path::new(fields[4]).strip_prefix(root).ok()?.to_str()?.to_owned();
        let fstype = line.split(" - ").nth(1)?.split(' ').next()?.to_owned();
        Some(Mounted { point, fstype, id: fields[0].parse().ok()? })
    };
    let mut mounted: Vec<_> =
        text.lines().filter_map(entry).filter(|entry| !entry.point.is_empty()).collect();
    mounted.sort();
    mounted
}

/// As a reboot does.
pub(crate) fn unmount_all(root: &Path) {
    for mounted in mounted_below(root).iter().rev() {
        unmount(&root.join(&mounted.point));
    }
}

/// A plan as containerd mounts it (`core/mount/mount_linux.go`); unmounted when dropped.
pub(crate) struct Container {
    directory: TempDir,
}

impl Container {
    pub(crate) fn new(plan: &[Mount]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let [mount] = plan else { panic!("a host plan is one mount: {plan:?}") };
        match mount.fstype.as_str() {
            "bind" => bind(mount, directory.path()),
            "overlay" => overlay(mount, directory.path()),
            other => panic!("nobody but the mount manager mounts {other}"),
        }
        Self { directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The content of a file, or nothing where there is none.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Mode, owner and group of `/`.
    pub(crate) fn root(&self) -> (u32, u32, u32) {
        let root = fs::metadata(self.path("")).unwrap();
        (root.mode() & 0o7777, root.uid(), root.gid())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        unmount(self.directory.path());
    }
}

fn bind(mount: &Mount, target: &Path) {
    rustix::mount::mount_bind_recursive(&mount.source, target).unwrap();
    if mount.options.iter().any(|option| option == "ro") {
        rustix::mount::mount_remount(target, MountFlags::BIND | MountFlags::RDONLY, "").unwrap();
    }
}

/// Room that containerd leaves in the page of options.
const ROOM: usize = 4096 - 512;

/// With long options, the paths of the lower directories are made relative to what they have in common.
fn overlay(mount: &Mount, target: &Path) {
    let length: usize = mount.options.iter().map(String::len).sum();
    let mut options = mount.options.clone();
    let mut directory = PathBuf::from("/");
    if length >= ROOM {
        let index = options.iter().position(|option| option.starts_with("lowerdir=")).unwrap();
        let lower = options[index].strip_prefix("lowerdir=").unwrap().to_owned();
        directory = Path::new(lower.split(':').next().unwrap()).parent().unwrap().to_owned();
        let prefix = format!("{}/", directory.display());
        options[index] = format!("lowerdir={}", lower.replace(&prefix, ""));
    }
    let data = std::ffi::CString::new(options.join(",")).unwrap();
    assert!(data.as_bytes().len() < 4096, "{} bytes", data.as_bytes().len());
    let target = target.to_owned();
    let mounting = move || {
        // The thread's own working directory, so that other tests keep theirs.
        #[allow(unsafe_code)]
        // SAFETY: no descriptors are unshared.
        unsafe {
            rustix::thread::unshare_unsafe(UnshareFlags::FS).unwrap();
        }
        rustix::process::chdir(&directory).unwrap();
        rustix::mount::mount("overlay", &target, "overlay", MountFlags::empty(), data.as_c_str()).unwrap();
    };
    thread::spawn(mounting).join().unwrap();
}
