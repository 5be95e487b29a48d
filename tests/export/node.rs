//! A snapshotter whose plans name sockets.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nexuserofs::config::{Flavour, Layers, VerityMode};
use nexuserofs::expose::export::{Launch, Place, Running, place};
use nexuserofs::expose::mount::Mount;
use nexuserofs::image::digest::Digest;
use nexuserofs::layer::{HashTree, LayerRecord, Protection, build};
use nexuserofs::snapshot::{Labels, Profile, SnapshotSettings, Snapshotter};
use serde_json::Value;
use tempfile::TempDir;

use crate::archive::{Entry, archive};

/// Profile whose layers are merged.
pub(crate) const MERGED: &str = "merged";
/// Profile whose layers are checked while they are read.
pub(crate) const CHECKED: &str = "checked";
/// Size of a writable block.
pub(crate) const BLOCK_SIZE: u64 = 32 << 20;

/// The program that serves.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_nexuserofs");

/// How long something may take before it is taken for lost. No test waits so long that passes.
const LOST: Duration = Duration::from_secs(120);

/// A snapshotter on a root of its own. The processes that it started end with it.
pub(crate) struct Node {
    root: TempDir,
    snapshotter: Option<Snapshotter>,
}

impl Node {
    pub(crate) fn start() -> Self {
        Self::start_with(PROGRAM)
    }

    /// A snapshotter that has disks served by this program.
    pub(crate) fn start_with(program: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let snapshotter = Some(open_with(root.path(), program));
        Self { root, snapshotter }
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn snapshotter(&self) -> &Snapshotter {
        self.snapshotter.as_ref().unwrap()
    }

    /// Ends the snapshotter, and starts another one after `between`.
    pub(crate) fn restart(&mut self, between: impl FnOnce()) {
        drop(self.snapshotter.take());
        between();
        self.snapshotter = Some(open_with(self.root.path(), PROGRAM));
    }

    /// Three layers: the last commit is `c`.
    pub(crate) fn image(&self, profile: &str) -> &'static str {
        let body = "of a layer ".repeat(2000);
        self.commit(profile, "a", None, &[Entry::file("one", &body), Entry::file("two", "a")]);
        self.commit(profile, "b", Some("a"), &[Entry::file("two", "b")]);
        self.commit(profile, "c", Some("b"), &[Entry::file("three", "c")]);
        "c"
    }

    pub(crate) fn prepare(&self, profile: &str, key: &str, parent: Option<&str>) -> Vec<Mount> {
        self.snapshotter().prepare(profile, key, parent, Labels::new()).unwrap()
    }

    /// The directories of all exports.
    pub(crate) fn places(&self) -> Vec<Place> {
        let entries = fs::read_dir(self.root().join(place::DIRECTORY)).unwrap();
        entries.map(|entry| Place::new(entry.unwrap().path())).collect()
    }

    /// The only export.
    pub(crate) fn place(&self) -> Place {
        let places = self.places();
        assert_eq!(places.len(), 1, "{places:?}");
        places.into_iter().next().unwrap()
    }

    /// The only file of this name in a directory of `directory`, below the root.
    pub(crate) fn only(&self, directory: &str, name: &str) -> PathBuf {
        let entries = fs::read_dir(self.root().join(directory)).unwrap();
        let mut found = entries.map(|entry| entry.unwrap().path().join(name)).filter(|path| path.exists());
        let only = found.next().unwrap();
        assert_eq!(found.next(), None);
        only
    }

    /// What the operator's tool tells of all exports.
    pub(crate) fn exports(&self) -> Value {
        let mut tool = Command::new(PROGRAM);
        let output = tool.args(["--json", "exports", "--root"]).arg(self.root()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The number of the process that serves the only export.
    pub(crate) fn pid(&self) -> Option<i32> {
        Running::find(&self.place()).unwrap().map(|running| running.pid())
    }

    fn commit(&self, profile: &str, name: &str, parent: Option<&str>, entries: &[Entry]) {
        let tar = archive(entries);
        let labels = Labels::from([("containerd.io/snapshot.ref".to_owned(), name.to_owned())]);
        let key = format!("extract {name}");
        let snapshotter = self.snapshotter();
        let mounts = snapshotter.prepare(profile, &key, parent, labels).unwrap();
        assert!(mounts.iter().all(|mount| mount.fstype != "vhost-user-blk"), "{mounts:?}");
        let claim = snapshotter.claim(&mounts).unwrap().unwrap();
        let staging = snapshotter.staging().unwrap();
        let diff_id = Digest::of(&tar);
        let tree = if profile == CHECKED { HashTree::With } else { HashTree::Without };
        let built = build::read(&mut tar.as_slice(), &staging.layer_path(), tree).unwrap();
        let built = built.seal(&diff_id).unwrap();
        let digest = Digest::of(&tar);
        let record = LayerRecord::from_tar(diff_id, tar.len() as u64, built.image_bytes, built.root, digest);
        let record = record.with_verity(built.verity);
        snapshotter.attach_built(&claim, staging, record).unwrap();
        drop(claim);
        snapshotter.commit(profile, name, &key, None, Labels::new()).unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(snapshotter) = self.snapshotter.take() {
            for profile in [MERGED, CHECKED] {
                for info in snapshotter.list(profile) {
                    // Parents are still parents the first time; processes belong to none of them.
                    let _ = snapshotter.remove(profile, &info.name);
                }
            }
        }
    }
}

/// A snapshotter that has disks served by this program.
pub(crate) fn open_with(root: &Path, program: &str) -> Snapshotter {
    let profile = |verity| Profile {
        flavour: Flavour::VhostUser,
        layers: Layers::Merged,
        default_size: BLOCK_SIZE,
        verity,
        ..Profile::default()
    };
    let profiles = BTreeMap::from([
        (MERGED.to_owned(), profile(VerityMode::Off)),
        (CHECKED.to_owned(), profile(VerityMode::Require)),
    ]);
    let root = root.to_str().unwrap().parse().unwrap();
    let settings = SnapshotSettings { root, protection: Protection::default(), profiles };
    let launch = Launch { program: PathBuf::from(program), ..Launch::beside_this_program() };
    Snapshotter::open_with(settings, launch).unwrap().0
}

/// Waits for what `look` finds.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < LOST, "{what} does not happen");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Ends a process that one of us started.
pub(crate) fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// Whether there is such a process that has not ended.
pub(crate) fn lives(pid: i32) -> bool {
    let state =
        |status: String| status.lines().find_map(|line| line.strip_prefix("State:\t").map(str::to_owned));
    let state = fs::read_to_string(format!("/proc/{pid}/status")).ok().and_then(state);
    state.is_some_and(|state| !state.starts_with(['Z', 'X']))
}
