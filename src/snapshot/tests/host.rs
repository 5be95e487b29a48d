//! A root directory with a snapshotter on it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::config::Layers;
use crate::error::{self, Classify};
use crate::expose::mount::Mount;
use crate::image::digest::Digest;
use crate::image::verity::{self, Leaves};
use crate::layer::{BlobLayer, LayerRecord, Protection, RootAttributes, Verity};
use crate::snapshot::model::EXTRACTION_LABEL;
use crate::snapshot::{Claim, Error, Labels, Profile, RecoveryReport, SnapshotSettings, Snapshotter};
use crate::store::FileMedium;
use crate::store::Medium;

/// Profile in directory mode.
pub(super) const DIR: &str = "dir";
/// Profile in block mode.
pub(super) const BLOCK: &str = "block";
pub(super) const BLOCK_SIZE: u64 = 16 << 20;
/// Profile in directory mode that has its layers merged.
pub(super) const MERGED: &str = "merged";

pub(super) struct Host {
    pub(super) root: TempDir,
    pub(super) snapshotter: Snapshotter,
    pub(super) report: RecoveryReport,
}

impl Host {
    pub(super) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let database = Box::new(FileMedium(root.path().join("metadata.redb")));
        Self::on(root, database)
    }

    pub(super) fn on(root: TempDir, database: Box<dyn Medium>) -> Self {
        let settings = settings(root.path());
        Self::open(root, settings, database)
    }

    fn open(root: TempDir, settings: SnapshotSettings, database: Box<dyn Medium>) -> Self {
        let (snapshotter, report) = Snapshotter::open_on(settings, database).unwrap();
        Self { root, snapshotter, report }
    }

    /// Closes and opens again with other settings.
    pub(super) fn reconfigured(self, change: impl FnOnce(&mut SnapshotSettings)) -> Self {
        let Self { root, snapshotter, .. } = self;
        drop(snapshotter);
        let mut settings = settings(root.path());
        change(&mut settings);
        let database = Box::new(FileMedium(root.path().join("metadata.redb")));
        Self::open(root, settings, database)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Closes and opens again, after `between` did something to the root directory.
    pub(super) fn restarted(self, between: impl FnOnce(&Path)) -> Self {
        let Self { root, snapshotter, .. } = self;
        drop(snapshotter);
        between(root.path());
        let database = Box::new(FileMedium(root.path().join("metadata.redb")));
        Self::on(root, database)
    }

    pub(super) fn restart(self) -> Self {
        self.restarted(|_| {})
    }

    /// Makes an extraction, attaches a layer to it and commits it as `name`, rebased onto `parent`.
    pub(super) fn commit_layer(&self, profile: &str, name: &str, parent: Option<&str>, layer: &Layer) {
        let key = format!("extract {name}");
        let mounts = self.extraction(profile, &key, name);
        let claim = self.claim(&mounts);
        self.build(&claim, layer).unwrap();
        drop(claim);
        self.snapshotter.commit(profile, name, &key, parent, extraction_labels(name)).unwrap();
    }

    pub(super) fn extraction(&self, profile: &str, key: &str, name: &str) -> Vec<Mount> {
        self.snapshotter.prepare(profile, key, None, extraction_labels(name)).unwrap()
    }

    pub(super) fn claim(&self, mounts: &[Mount]) -> Claim {
        self.snapshotter.claim(mounts).unwrap().unwrap()
    }

    pub(super) fn build(&self, claim: &Claim, layer: &Layer) -> Result<BlobLayer, Error> {
        let staging = self.snapshotter.staging().unwrap();
        fs::write(staging.layer_path(), &layer.image).unwrap();
        self.snapshotter.attach_built(claim, staging, layer.record())
    }

    /// Waits for the trash and lists the entries of `snapshots`, `layers` and `staging`.
    pub(super) fn on_disk(&self) -> (BTreeSet<String>, BTreeSet<String>, BTreeSet<String>) {
        self.snapshotter.cleanup().unwrap();
        let list = |name| names_in(&self.path(name));
        (list("snapshots"), list("layers"), list("staging"))
    }

    /// Asserts that disk, memory and database tell the same and nothing is left over.
    pub(super) fn assert_consistent(&self) {
        let (snapshots, layers, staging) = self.on_disk();
        self.snapshotter.inner.ledger.read(|index| {
            index.assert_derived();
            let ids: BTreeSet<String> = index.snapshots().map(|record| record.id.to_string()).collect();
            let keys: BTreeSet<String> = index.layers().map(|layer| layer.key.to_string()).collect();
            let named: BTreeSet<String> = index
                .snapshots()
                .flat_map(|record| record.layers().map(ToString::to_string).collect::<Vec<_>>())
                .collect();
            assert_eq!(snapshots, ids, "directories and snapshots");
            assert_eq!(layers, keys, "directories and layers");
            assert_eq!(keys, named, "layers and references");
        });
        assert!(staging.is_empty(), "{staging:?}");
    }
}

pub(super) fn names_in(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

pub(super) fn settings(root: &Path) -> SnapshotSettings {
    let profile = |default_size| Profile {
        default_size,
        overlay_options: vec!["index=off".parse().unwrap()],
        ..Profile::default()
    };
    let merged = Profile { layers: Layers::Merged, ..profile(0) };
    let profiles = [(DIR, profile(0)), (BLOCK, profile(BLOCK_SIZE)), (MERGED, merged)];
    let profiles: BTreeMap<_, _> =
        profiles.into_iter().map(|(name, profile)| (name.to_owned(), profile)).collect();
    SnapshotSettings {
        root: root.to_str().unwrap().parse().unwrap(),
        protection: Protection::default(),
        profiles,
    }
}

pub(super) fn extraction_labels(name: &str) -> Labels {
    Labels::from([(EXTRACTION_LABEL.to_owned(), name.to_owned())])
}

pub(super) fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> error::Kind {
    result.unwrap_err().kind()
}

/// A layer for tests: its file is not an EROFS image, which nothing here looks at.
#[derive(Clone)]
pub(super) struct Layer {
    pub(super) diff_id: Digest,
    pub(super) blob: Digest,
    pub(super) image: Vec<u8>,
    pub(super) root: Option<RootAttributes>,
    pub(super) verity: Option<Verity>,
}

impl Layer {
    pub(super) fn new(name: &str) -> Self {
        Self {
            diff_id: Digest::of(name.as_bytes()),
            blob: Digest::of(format!("{name}.gz").as_bytes()),
            image: name.as_bytes().repeat(4096),
            root: None,
            verity: None,
        }
    }

    /// The same with a dm-verity tree.
    pub(super) fn with_tree(name: &str) -> Self {
        Self::new(name).hashed()
    }

    /// This layer with a dm-verity tree.
    pub(super) fn hashed(mut self) -> Self {
        let blocks = self.image.len() as u64 / 4096;
        let tree = Leaves::of(&mut self.image.as_slice()).unwrap().into_tree(blocks).unwrap();
        let uuid = verity::uuid(&self.diff_id);
        tree.write(uuid, &mut self.image).unwrap();
        Self { verity: Some(Verity::new(&tree, uuid)), ..self }
    }

    pub(super) fn record(&self) -> LayerRecord {
        LayerRecord::from_tar(self.diff_id, 10_240, self.image.len() as u64, self.root.clone(), self.blob)
            .with_verity(self.verity)
    }

    pub(super) fn key(&self) -> String {
        self.record().key.to_string()
    }
}
