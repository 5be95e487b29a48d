//! Random histories of a snapshotter against a model of containerd's rules.
//!
//! The model knows snapshots and layers by name only. After every step both tell the same, and what
//! lies on disk is what the model says: nothing is lost, nothing is left over, and a plan that was
//! given out never changes.

// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use nexuserofs::error::{Classify, Kind as Failure};
use nexuserofs::expose::mount::Mount;
use nexuserofs::image::digest::Digest;
use nexuserofs::layer::{LayerRecord, Protection, Recipe};
use nexuserofs::snapshot::model::EXTRACTION_LABEL;
use nexuserofs::snapshot::{
    Error, Kind, LabelChange, Labels, Profile, RecoveryReport, SnapshotSettings, Snapshotter,
};
use proptest::prelude::*;
use tempfile::TempDir;

/// Profiles, keys and layers are few, so that histories meet themselves.
const PROFILES: [&str; 2] = ["one", "two"];
const KEYS: u8 = 6;
const LAYERS: u8 = 4;

/// The file that is written to snapshots.
const WRITTEN: &str = "written";

/// Index of the profile, and key or name.
type Key = (usize, String);

#[derive(Clone, Debug)]
enum Step {
    Prepare { key: Key, parent: Option<String>, extraction: bool },
    View { key: Key, parent: Option<String> },
    Attach { key: Key, layer: u8 },
    Write { key: Key, byte: u8 },
    Commit { key: Key, name: String, parent: Option<String> },
    Remove { key: Key },
    Update { key: Key, value: String },
    Restart,
    Rebuild,
}

fn text() -> impl Strategy<Value = String> + Clone {
    (0..KEYS).prop_map(|number| format!("k{number}"))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = (0..PROFILES.len(), text());
    let parent = proptest::option::weighted(0.7, text());
    let step = prop_oneof![
        6 => (key.clone(), parent.clone(), any::<bool>())
            .prop_map(|(key, parent, extraction)| Step::Prepare { key, parent, extraction }),
        2 => (key.clone(), parent).prop_map(|(key, parent)| Step::View { key, parent }),
        6 => (key.clone(), 0..LAYERS).prop_map(|(key, layer)| Step::Attach { key, layer }),
        4 => (key.clone(), any::<u8>()).prop_map(|(key, byte)| Step::Write { key, byte }),
        6 => (key.clone(), text(), proptest::option::weighted(0.3, text()))
            .prop_map(|(key, name, parent)| Step::Commit { key, name, parent }),
        4 => key.clone().prop_map(|key| Step::Remove { key }),
        1 => (key, "[a-z]{0,2}").prop_map(|(key, value)| Step::Update { key, value }),
        1 => Just(Step::Restart),
        1 => Just(Step::Rebuild),
    ];
    proptest::collection::vec(step, 1..60)
}

#[derive(Clone, Debug, PartialEq)]
struct Expected {
    kind: Kind,
    parent: Option<String>,
    labels: Labels,
    /// The layer that was applied.
    layer: Option<u8>,
    /// What was written last.
    written: Option<u8>,
    /// What Prepare or View returned.
    plan: Vec<Mount>,
}

/// What a layer holds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Content {
    Applied(u8),
    Written(Option<u8>),
}

#[derive(Debug, Default)]
struct Model {
    snapshots: BTreeMap<Key, Expected>,
}

impl Model {
    fn refuse_new(&self, key: &Key, parent: Option<&String>) -> Option<Failure> {
        if self.snapshots.contains_key(key) {
            return Some(Failure::AlreadyExists);
        }
        match self.snapshots.get(&(key.0, parent?.clone())) {
            None => Some(Failure::NotFound),
            Some(found) => (found.kind != Kind::Committed).then_some(Failure::InvalidArgument),
        }
    }

    fn refuse_commit(&self, key: &Key, name: &str, parent: Option<&String>) -> Option<Failure> {
        if self.snapshots.contains_key(&(key.0, name.to_owned())) {
            return Some(Failure::AlreadyExists);
        }
        let Some(found) = self.snapshots.get(key) else { return Some(Failure::NotFound) };
        if found.kind != Kind::Active {
            return Some(Failure::FailedPrecondition);
        }
        if found.parent.is_some() && parent.is_some() && found.parent.as_ref() != parent {
            return Some(Failure::InvalidArgument);
        }
        if let (None, Some(parent)) = (&found.parent, parent) {
            match self.snapshots.get(&(key.0, parent.clone())) {
                None => return Some(Failure::NotFound),
                Some(found) if found.kind != Kind::Committed => return Some(Failure::FailedPrecondition),
                Some(_) => {}
            }
        }
        (found.layer.is_some() && found.written.is_some()).then_some(Failure::FailedPrecondition)
    }

    fn refuse_remove(&self, key: &Key) -> Option<Failure> {
        if !self.snapshots.contains_key(key) {
            return Some(Failure::NotFound);
        }
        let is_child =
            |(other, found): (&Key, &Expected)| other.0 == key.0 && found.parent.as_ref() == Some(&key.1);
        self.snapshots.iter().any(is_child).then_some(Failure::FailedPrecondition)
    }

    fn layers(&self) -> BTreeSet<u8> {
        self.snapshots.values().filter_map(|expected| expected.layer).collect()
    }

    /// Layers below a new snapshot on `parent`, newest first.
    fn chain(&self, profile: usize, mut parent: Option<String>) -> Vec<Content> {
        let mut layers = Vec::new();
        while let Some(name) = parent {
            let found = &self.snapshots[&(profile, name)];
            layers.push(found.layer.map_or(Content::Written(found.written), Content::Applied));
            parent = found.parent.clone();
        }
        layers
    }

    /// Committed snapshots that no layer was applied to.
    fn written(&self) -> impl Iterator<Item = &Key> {
        let committed = self.snapshots.iter().filter(|(_, found)| found.kind == Kind::Committed);
        committed.filter(|(_, found)| found.layer.is_none()).map(|(key, _)| key)
    }
}

/// The snapshotter and the model side by side.
struct History {
    root: TempDir,
    snapshotter: Snapshotter,
    model: Model,
}

fn open(root: &Path) -> (Snapshotter, RecoveryReport) {
    let profiles = PROFILES.map(|name| (name.to_owned(), Profile::default())).into();
    Snapshotter::open(SnapshotSettings {
        root: root.to_str().unwrap().parse().unwrap(),
        protection: Protection::default(),
        profiles,
    })
    .unwrap()
}

fn diff_id(layer: u8) -> Digest {
    Digest::of(&[layer])
}

fn image(layer: u8) -> Vec<u8> {
    vec![layer; 4096 * usize::from(layer + 1)]
}

fn record(layer: u8) -> LayerRecord {
    LayerRecord::from_tar(diff_id(layer), 512, image(layer).len() as u64, None, Digest::of(&[layer, 0]))
}

/// Asserts that `result` is as the model says, and returns the value of a success.
fn agreed<T: std::fmt::Debug>(result: Result<T, Error>, refusal: Option<Failure>) -> Option<T> {
    match (result, refusal) {
        (Ok(value), None) => Some(value),
        (Err(error), Some(refusal)) if error.kind() == refusal => None,
        (result, refusal) => panic!("the model says {refusal:?}, the snapshotter {result:?}"),
    }
}

impl History {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let (snapshotter, _) = open(root.path());
        Self { root, snapshotter, model: Model::default() }
    }

    fn take(mut self, step: Step) -> Self {
        match step {
            Step::Prepare { key, parent, extraction } => {
                let target = if extraction { "target" } else { "" };
                self.create(Kind::Active, key, parent, target);
            }
            Step::View { key, parent } => self.create(Kind::View, key, parent, ""),
            Step::Attach { key, layer } => self.attach(&key, layer),
            Step::Write { key, byte } => self.write(&key, byte),
            Step::Commit { key, name, parent } => self.commit(&key, name, parent),
            Step::Remove { key } => self.remove(&key),
            Step::Update { key, value } => self.update(&key, value),
            Step::Restart => return self.restart(|_| {}, false),
            Step::Rebuild => {
                let damage = |root: &Path| fs::write(root.join("metadata.redb"), "not a database").unwrap();
                return self.restart(damage, true);
            }
        }
        self
    }

    fn create(&mut self, kind: Kind, key: Key, parent: Option<String>, target: &str) {
        let refusal = self.model.refuse_new(&key, parent.as_ref());
        let labels = Labels::from([(EXTRACTION_LABEL.to_owned(), target.to_owned())]);
        let profile = PROFILES[key.0];
        let result = match kind {
            Kind::View => self.snapshotter.view(profile, &key.1, parent.as_deref(), labels.clone()),
            _ => self.snapshotter.prepare(profile, &key.1, parent.as_deref(), labels.clone()),
        };
        let Some(plan) = agreed(result, refusal) else { return };
        check_layers_of(&plan, &self.model.chain(key.0, parent.clone()));
        let labels = labels.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        self.model.snapshots.insert(key, Expected { kind, parent, labels, layer: None, written: None, plan });
    }

    fn attach(&mut self, key: &Key, layer: u8) {
        let known = self.model.layers().contains(&layer);
        let Some(expected) = self.model.snapshots.get_mut(key) else { return };
        let claim = self.snapshotter.claim(&expected.plan);
        if expected.kind != Kind::Active || expected.written.is_some() {
            assert_eq!(claim.unwrap_err().kind(), Failure::FailedPrecondition);
            return;
        }
        let claim = claim.unwrap().expect("an active snapshot's plan is ours");
        let blob = Digest::of(&[layer, 1]);
        let existing =
            self.snapshotter.attach_existing(&claim, &Recipe::Native, &diff_id(layer), &blob).unwrap();
        assert_eq!(existing.is_some(), known, "layer {layer}");
        if existing.is_none() {
            let staging = self.snapshotter.staging().unwrap();
            fs::write(staging.layer_path(), image(layer)).unwrap();
            self.snapshotter.attach_built(&claim, staging, record(layer)).unwrap();
        }
        expected.layer = Some(layer);
    }

    fn write(&mut self, key: &Key, byte: u8) {
        let Some(expected) = self.model.snapshots.get_mut(key) else { return };
        if expected.kind == Kind::Active {
            fs::write(upper_of(&expected.plan).join(WRITTEN), [byte]).unwrap();
            expected.written = Some(byte);
        }
    }

    fn commit(&mut self, key: &Key, name: String, parent: Option<String>) {
        let refusal = self.model.refuse_commit(key, &name, parent.as_ref());
        let labels = Labels::from([("name".to_owned(), name.clone())]);
        let profile = PROFILES[key.0];
        let result = self.snapshotter.commit(profile, &name, &key.1, parent.as_deref(), labels.clone());
        if agreed(result, refusal).is_none() {
            return;
        }
        let mut expected = self.model.snapshots.remove(key).unwrap();
        expected.kind = Kind::Committed;
        expected.parent = expected.parent.or(parent);
        expected.labels = labels;
        self.model.snapshots.insert((key.0, name), expected);
    }

    fn remove(&mut self, key: &Key) {
        let refusal = self.model.refuse_remove(key);
        if agreed(self.snapshotter.remove(PROFILES[key.0], &key.1), refusal).is_some() {
            self.model.snapshots.remove(key);
        }
    }

    fn update(&mut self, key: &Key, value: String) {
        let change = LabelChange::Set(Labels::from([("value".to_owned(), value.clone())]));
        let refusal = (!self.model.snapshots.contains_key(key)).then_some(Failure::NotFound);
        agreed(self.snapshotter.update(PROFILES[key.0], &key.1, change), refusal);
        let Some(expected) = self.model.snapshots.get_mut(key) else { return };
        if value.is_empty() {
            expected.labels.remove("value");
        } else {
            expected.labels.insert("value".to_owned(), value);
        }
    }

    fn restart(self, between: impl FnOnce(&Path), rebuilt: bool) -> Self {
        let Self { root, snapshotter, model } = self;
        drop(snapshotter);
        between(root.path());
        let (snapshotter, report) = open(root.path());
        assert_eq!(report.rebuilt, rebuilt);
        assert!(report.missing.is_empty() && report.unreadable.is_empty(), "{report:?}");
        Self { root, snapshotter, model }
    }

    fn check(&self) {
        let infos =
            |number: usize| self.snapshotter.list(PROFILES[number]).into_iter().map(move |i| (number, i));
        let found: BTreeMap<Key, _> = (0..PROFILES.len())
            .flat_map(infos)
            .map(|(number, info)| ((number, info.name), (info.kind, info.parent, info.labels)))
            .collect();
        let expected = self.model.snapshots.iter();
        let expected: BTreeMap<Key, _> =
            expected.map(|(key, e)| (key.clone(), (e.kind, e.parent.clone(), e.labels.clone()))).collect();
        assert_eq!(found, expected);
        for (key, expected) in &self.model.snapshots {
            let mounts = self.snapshotter.mounts(PROFILES[key.0], &key.1);
            match expected.kind {
                Kind::Committed => assert_eq!(mounts.unwrap_err().kind(), Failure::FailedPrecondition),
                _ => assert_eq!(mounts.unwrap(), expected.plan, "a plan never changes"),
            }
        }
        for layer in 0..LAYERS {
            let found = self.snapshotter.layer_of_diff(&diff_id(layer), &Recipe::Native);
            assert_eq!(found.is_some(), self.model.layers().contains(&layer), "layer {layer}");
        }
    }

    fn check_disk(&self) {
        for (profile, name) in self.model.written() {
            // Waits for the layer.
            assert_ne!(self.snapshotter.usage(PROFILES[*profile], name).unwrap().bytes, 0);
        }
        self.snapshotter.cleanup().unwrap();
        let names = |directory: &str| -> BTreeSet<String> {
            let entries = fs::read_dir(self.root.path().join(directory)).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        };
        assert_eq!(names("snapshots").len(), self.model.snapshots.len());
        let layers = self.model.layers().into_iter().map(|layer| record(layer).key.to_string());
        let (written, applied): (BTreeSet<_>, _) =
            names("layers").into_iter().partition(|name| name.starts_with("w1-"));
        assert_eq!(applied, layers.collect());
        assert_eq!(written.len(), self.model.written().count());
        assert!(names("staging").is_empty());
    }
}

fn check_layers_of(plan: &[Mount], chain: &[Content]) {
    // A plan without layers has one that holds nothing.
    let is_layer = |mount: &&Mount| mount.fstype == "erofs" && !mount.source.contains("/empty/");
    let layers: Vec<_> = plan.iter().filter(is_layer).collect();
    assert_eq!(layers.len(), chain.len());
    for (mount, content) in layers.into_iter().zip(chain) {
        let found = fs::read(&mount.source).unwrap();
        match content {
            Content::Applied(layer) => assert_eq!(found, image(*layer)),
            Content::Written(byte) => assert_eq!(written_in(&found), byte.map(|byte| vec![byte])),
        }
    }
}

/// The directory that a plan writes to.
fn upper_of(plan: &[Mount]) -> PathBuf {
    let last = plan.last().unwrap();
    let upper = last.options.iter().find_map(|option| option.strip_prefix("upperdir="));
    PathBuf::from(upper.unwrap_or(&last.source))
}

/// What a layer of a written snapshot holds, through a reader that shares no code with its writer.
fn written_in(image: &[u8]) -> Option<Vec<u8>> {
    let image = erofs_rs::EroFS::new(erofs_rs::backend::SliceImage::new(image)).unwrap();
    let mut content = Vec::new();
    image.open(format!("/{WRITTEN}")).ok()?.read_to_end(&mut content).unwrap();
    Some(content)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_snapshotter_and_the_model_agree(steps in steps()) {
        let mut history = History::new();
        for step in steps {
            history = history.take(step);
            history.check();
        }
        history.check_disk();
        history.restart(|_| {}, false).check_disk();
    }
}
