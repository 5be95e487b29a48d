//! A snapshotter with one profile of a settings file, and images of any number of layers.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use nexuserofs::config::{self, Fragment};
use nexuserofs::expose::mount::Mount;
use nexuserofs::image::digest::Digest;
use nexuserofs::layer::{HashTree, LayerRecord, Protection, build};
use nexuserofs::snapshot::{Error, Labels, Profile, SnapshotSettings, Snapshotter};
use tempfile::TempDir;

use crate::archive::{Entry, archive};
use crate::unmounting::unmount;

/// Where writes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Directory,
    Block,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Directory => "directory",
            Self::Block => "block",
        })
    }
}

/// Why this process can mount nothing, if it cannot.
pub(crate) fn can_mount() -> Result<(), String> {
    let directory = tempfile::tempdir().unwrap();
    rustix::mount::mount_bind(directory.path(), directory.path())
        .map(|()| unmount(directory.path()))
        .map_err(|error| format!("mounting needs CAP_SYS_ADMIN: {error}"))
}

pub(crate) struct Host {
    profile: String,
    root: TempDir,
    snapshotter: Option<Snapshotter>,
}

impl Host {
    pub(crate) fn start(profile: &str, mode: Mode) -> Self {
        let root = tempfile::tempdir().unwrap();
        let settings = settings(root.path(), profile, mode);
        let (snapshotter, _) = Snapshotter::open(settings).unwrap();
        Self { profile: profile.to_owned(), root, snapshotter: Some(snapshotter) }
    }

    /// Commits layers `1` to `count`, each on the one before and with a dm-verity tree.
    pub(crate) fn commit_layers(&self, count: usize) {
        for number in 1..=count {
            self.commit_layer(number);
        }
    }

    fn commit_layer(&self, number: usize) {
        let snapshotter = self.snapshotter();
        let tar = archive(&[Entry::file(format!("file-{number}"), number.to_string())]);
        let (name, key) = (number.to_string(), format!("extract {number}"));
        let labels = Labels::from([("containerd.io/snapshot.ref".to_owned(), name.clone())]);
        let mounts = snapshotter.prepare(&self.profile, &key, parent(number - 1).as_deref(), labels).unwrap();
        let claim = snapshotter.claim(&mounts).unwrap().unwrap();
        let staging = snapshotter.staging().unwrap();
        let diff_id = Digest::of(&tar);
        let unsealed = build::read(&mut tar.as_slice(), &staging.layer_path(), HashTree::With).unwrap();
        let built = unsealed.seal(&diff_id).unwrap();
        let bytes = tar.len() as u64;
        let record = LayerRecord::from_tar(diff_id, bytes, built.image_bytes, built.root, diff_id);
        snapshotter.attach_built(&claim, staging, record.with_verity(built.verity)).unwrap();
        drop(claim);
        snapshotter.commit(&self.profile, &name, &key, None, Labels::new()).unwrap();
    }

    /// The plan of an active snapshot on so many layers.
    pub(crate) fn active(&self, layers: usize) -> String {
        let key = format!("active {layers}");
        self.text(self.snapshotter().prepare(&self.profile, &key, parent(layers).as_deref(), Labels::new()))
    }

    /// The plan of a view of so many layers.
    pub(crate) fn view(&self, layers: usize) -> String {
        let key = format!("view {layers}");
        self.text(self.snapshotter().view(&self.profile, &key, parent(layers).as_deref(), Labels::new()))
    }

    fn snapshotter(&self) -> &Snapshotter {
        self.snapshotter.as_ref().unwrap()
    }

    /// An entry a line: type, source, options. What differs from one root to another has a name instead.
    fn text(&self, plan: Result<Vec<Mount>, Error>) -> String {
        let plan = match plan {
            Ok(plan) => plan,
            Err(error) => return format!("refused: {error}\n"),
        };
        let line = |mount: &Mount| format!("{} {} {}\n", mount.fstype, mount.source, mount.options.join(","));
        let text: String = plan.iter().map(line).collect();
        let text = text.replace(self.root.path().to_str().unwrap(), "/ROOT");
        named(&named(&text, "/ROOT/snapshots/", "ID"), "/ROOT/mnt/", "NAME")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.snapshotter.take());
        let mounted = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let points = mounted.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
        let ours = points.filter(|point| point.starts_with(self.root.path()));
        ours.collect::<Vec<_>>().iter().rev().for_each(|point| unmount(point));
    }
}

/// The name of the snapshot with so many layers.
fn parent(layers: usize) -> Option<String> {
    (layers > 0).then(|| layers.to_string())
}

/// A text with every name that follows `place` called `name`.
fn named(text: &str, place: &str, name: &str) -> String {
    let mut parts = text.split(place);
    let first = parts.next().unwrap_or_default().to_owned();
    let is_end = |c: char| "/ :,\n".contains(c);
    parts.fold(first, |text, part| text + place + name + &part[part.find(is_end).unwrap_or(part.len())..])
}

fn settings(root: &Path, profile: &str, mode: Mode) -> SnapshotSettings {
    let size = match mode {
        Mode::Directory => "0",
        Mode::Block => "64MiB",
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), format!("[profiles.{profile}]\ndefault_size = '{size}'\n")).unwrap();
    let settings = config::load(Fragment::default(), Some(file.path())).unwrap();
    let profiles = settings.profiles.iter();
    SnapshotSettings {
        root: root.to_str().unwrap().parse().unwrap(),
        protection: Protection::default(),
        profiles: profiles.map(|(name, profile)| (name.to_string(), Profile::from(profile))).collect(),
    }
}
