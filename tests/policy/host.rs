//! Images under a profile, their plans and their rules.

use std::collections::BTreeMap;

use nexuserofs::config::VerityMode;
use nexuserofs::expose::mount::Mount;
use nexuserofs::image::digest::Digest;
use nexuserofs::layer::{HashTree, LayerRecord, Protection, build};
use nexuserofs::snapshot::{Labels, Profile, SnapshotSettings, Snapshotter};
use nexuserofs::trust;
use nexuserofs_guest::manifest::{Manifest, Platform};
use tempfile::TempDir;

use crate::archive::{Entry, archive};

/// The profile whose plans Kata checks.
const CHECKED: &str = "nexuserofs-verity";
/// The same with a block for what is written.
const BLOCK: &str = "block";
/// The same without trees.
const UNCHECKED: &str = "nexuserofs";

/// An image of so many layers on a host of its own.
pub(crate) struct Image {
    snapshotter: Snapshotter,
    /// Oldest first.
    records: Vec<LayerRecord>,
    _root: TempDir,
}

impl Image {
    pub(crate) fn of(layers: usize) -> Self {
        let root = tempfile::tempdir().unwrap();
        let verity = |verity| Profile { verity, ..Profile::default() };
        let profiles = BTreeMap::from([
            (CHECKED.to_owned(), verity(VerityMode::Require)),
            (BLOCK.to_owned(), Profile { default_size: 16 << 20, ..verity(VerityMode::Require) }),
            (UNCHECKED.to_owned(), Profile::default()),
        ]);
        let path = root.path().to_str().unwrap().parse().unwrap();
        let settings = SnapshotSettings { root: path, protection: Protection::default(), profiles };
        let (snapshotter, _) = Snapshotter::open(settings).unwrap();
        let mut image = Self { snapshotter, records: Vec::new(), _root: root };
        for number in 1..=layers {
            let records = [CHECKED, BLOCK, UNCHECKED].map(|profile| image.commit(profile, number));
            image.records.extend(records.into_iter().next());
        }
        image
    }

    fn commit(&self, profile: &str, number: usize) -> LayerRecord {
        let tar = archive(&[Entry::file(format!("file-{number}"), number.to_string())]);
        let (name, key, diff_id) = (number.to_string(), format!("extract {number}"), Digest::of(&tar));
        let labels = Labels::from([("containerd.io/snapshot.ref".to_owned(), name.clone())]);
        let parent = (number > 1).then(|| (number - 1).to_string());
        let mounts = self.snapshotter.prepare(profile, &key, parent.as_deref(), labels).unwrap();
        let claim = self.snapshotter.claim(&mounts).unwrap().unwrap();
        let staging = self.snapshotter.staging().unwrap();
        let unsealed = build::read(&mut tar.as_slice(), &staging.layer_path(), HashTree::With).unwrap();
        let built = unsealed.seal(&diff_id).unwrap();
        let record = LayerRecord::from_tar(diff_id, tar.len() as u64, built.image_bytes, built.root, diff_id)
            .with_verity(built.verity);
        self.snapshotter.attach_built(&claim, staging, record.clone()).unwrap();
        drop(claim);
        self.snapshotter.commit(profile, &name, &key, None, Labels::new()).unwrap();
        record
    }

    /// The rules for this image.
    pub(crate) fn rules(&self) -> String {
        trust::rego::rules(&[self.manifest()]).unwrap()
    }

    pub(crate) fn manifest(&self) -> Manifest {
        let platform =
            Platform { os: "linux".parse().unwrap(), architecture: "amd64".parse().unwrap(), variant: None };
        trust::list(&self.records, None, platform).unwrap()
    }

    /// The plan that Kata gets for a container.
    pub(crate) fn plan(&self) -> Vec<Mount> {
        self.prepare(CHECKED)
    }

    /// The same with a block of the host's for what is written.
    pub(crate) fn plan_with_block(&self) -> Vec<Mount> {
        self.prepare(BLOCK)
    }

    /// The plan of a profile without dm-verity.
    pub(crate) fn unchecked_plan(&self) -> Vec<Mount> {
        self.prepare(UNCHECKED)
    }

    fn prepare(&self, profile: &str) -> Vec<Mount> {
        let parent = self.records.len().to_string();
        self.snapshotter.prepare(profile, "container", Some(&parent), Labels::new()).unwrap()
    }
}
