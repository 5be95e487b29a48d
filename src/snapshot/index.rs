//! All records in memory, with what is derived from them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use super::Error;
use super::chain::{Chain, Remembered};
use super::record::{Record, SnapshotId, State};
use crate::image::digest::Digest;
use crate::layer::{LayerKey, LayerRecord, Recipe};

/// One change of one record. Those of one operation happen together.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// A new snapshot; its directory is in place.
    AddSnapshot(Arc<Record>),
    /// A snapshot whose record is another now.
    UpdateSnapshot(Arc<Record>),
    RemoveSnapshot(SnapshotId),
    /// A new layer; its directory is in place.
    AddLayer(Arc<LayerRecord>),
    /// A layer whose record is another now.
    UpdateLayer(Arc<LayerRecord>),
    RemoveLayer(LayerKey),
}

/// What can be told of the chain that a new snapshot would stand on.
#[derive(Clone, Debug)]
pub(super) enum Below {
    Chain(Arc<Chain>),
    /// The layer of this committed snapshot has to be made before.
    Unsealed(Arc<Record>),
}

/// All records in memory, with what is derived from them.
#[derive(Debug, Default)]
pub(super) struct Index {
    snapshots: BTreeMap<SnapshotId, Arc<Record>>,
    /// Identifiers by profile and key.
    names: BTreeMap<String, BTreeMap<String, SnapshotId>>,
    /// Number of snapshots by profile and parent. No entry means none.
    children: HashMap<(String, String), usize>,
    layers: BTreeMap<LayerKey, Arc<LayerRecord>>,
    /// How often records name a layer, whether it exists or not. No entry means never.
    references: HashMap<LayerKey, usize>,
    /// Layers by compressed digest: one for each recipe that was followed. No entry means none.
    blobs: HashMap<Digest, BTreeSet<LayerKey>>,
    /// The chains that new snapshots were put on.
    chains: Remembered,
}

impl Index {
    /// The index of these records; None if two snapshots have the same name.
    pub(super) fn new(
        snapshots: impl IntoIterator<Item = Record>,
        layers: impl IntoIterator<Item = LayerRecord>,
    ) -> Option<Self> {
        let mut index = Self::default();
        for record in snapshots {
            if index.snapshot(&record.profile, &record.key).is_some() {
                return None;
            }
            index.insert_snapshot(Arc::new(record));
        }
        for record in layers {
            index.insert_layer(Arc::new(record));
        }
        Some(index)
    }

    pub(super) fn snapshot(&self, profile: &str, key: &str) -> Option<&Arc<Record>> {
        let id = self.names.get(profile)?.get(key)?;
        self.snapshots.get(id)
    }

    /// The snapshot with this key, which must exist.
    pub(super) fn existing(&self, profile: &str, key: &str) -> Result<&Arc<Record>, Error> {
        self.snapshot(profile, key)
            .ok_or_else(|| Error::NotFound { profile: profile.to_owned(), key: key.to_owned() })
    }

    /// Refuses a key or name that is in use.
    pub(super) fn check_free(&self, profile: &str, key: &str) -> Result<(), Error> {
        match self.snapshot(profile, key) {
            None => Ok(()),
            Some(_) => Err(Error::AlreadyExists { profile: profile.to_owned(), key: key.to_owned() }),
        }
    }

    pub(super) fn by_id(&self, id: SnapshotId) -> Option<&Arc<Record>> {
        self.snapshots.get(&id)
    }

    /// The committed snapshots whose layer is still to be made.
    pub(super) fn unsealed(&self) -> impl Iterator<Item = SnapshotId> {
        self.snapshots.values().filter(|record| record.unsealed().is_some()).map(|record| record.id)
    }

    pub(super) fn snapshots(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.snapshots.values()
    }

    /// The snapshots of a profile, by key.
    pub(super) fn of_profile(&self, profile: &str) -> impl Iterator<Item = &Arc<Record>> {
        self.names.get(profile).into_iter().flatten().filter_map(|(_, id)| self.snapshots.get(id))
    }

    pub(super) fn children(&self, record: &Record) -> usize {
        let parent = (record.profile.clone(), record.key.clone());
        self.children.get(&parent).copied().unwrap_or(0)
    }

    pub(super) fn layer(&self, key: &LayerKey) -> Option<&Arc<LayerRecord>> {
        self.layers.get(key)
    }

    pub(super) fn layers(&self) -> impl Iterator<Item = &Arc<LayerRecord>> {
        self.layers.values()
    }

    /// The layer that was made of this blob in this way.
    pub(super) fn layer_of_blob(&self, blob: &Digest, recipe: &Recipe) -> Option<&Arc<LayerRecord>> {
        let mut layers = self.blobs.get(blob)?.iter().filter_map(|key| self.layers.get(key));
        layers.find(|layer| is_made(layer, recipe))
    }

    /// The layer that the current version of this recipe made of the content with this digest.
    pub(super) fn layer_of_diff(&self, diff_id: &Digest, recipe: &Recipe) -> Option<&Arc<LayerRecord>> {
        let layer = self.layers.get(&LayerKey::made(recipe, recipe.version(), diff_id))?;
        (layer.content()?.diff_id == *diff_id && is_made(layer, recipe)).then_some(layer)
    }

    /// What a new snapshot on `parent` finds below it.
    pub(super) fn below(&self, profile: &str, parent: Option<&str>) -> Result<Below, Error> {
        let Some(parent) = parent else { return Ok(Below::Chain(Arc::default())) };
        let top = self.snapshot(profile, parent).ok_or_else(|| Error::ParentNotFound {
            profile: profile.to_owned(),
            parent: parent.to_owned(),
        })?;
        if let Some(chain) = self.chains.get(top.id) {
            return Ok(Below::Chain(chain));
        }
        let below = self.walk(top)?;
        if let Below::Chain(chain) = &below {
            self.chains.put(top.id, Arc::clone(chain));
        }
        Ok(below)
    }

    /// The chain of this snapshot and those below it.
    fn walk(&self, top: &Arc<Record>) -> Result<Below, Error> {
        let mut chain = Chain::default();
        let mut root = None;
        let mut record = top;
        loop {
            let name = &record.key;
            let key = match &record.state {
                State::Committed(committed) => &committed.layer,
                State::Unsealed(_) => return Ok(Below::Unsealed(Arc::clone(record))),
                State::View(_) | State::Active(_) => {
                    return Err(Error::ParentNotCommitted { parent: name.clone() });
                }
            };
            let layer = self
                .layer(key)
                .ok_or_else(|| Error::LayerMissing { name: name.clone(), layer: key.clone() })?;
            chain.layers.push(key.clone());
            if layer.verity.is_some() {
                chain.verity.insert(key.clone());
            }
            root = root.or(layer.root.as_ref());
            let Some(next) = &record.parent else { break };
            // More links than snapshots are a circle, which only a damaged database can hold.
            record = self
                .snapshot(&top.profile, next)
                .filter(|_| chain.layers.len() <= self.snapshots.len())
                .ok_or_else(|| Error::BrokenChain { name: name.clone(), parent: next.clone() })?;
        }
        chain.root = root.cloned().unwrap_or_default();
        Ok(Below::Chain(Arc::new(chain)))
    }

    /// The layers that no record names.
    pub(super) fn unreferenced(&self) -> impl Iterator<Item = &LayerKey> {
        self.layers.keys().filter(|key| !self.references.contains_key(*key))
    }

    /// The layers that no record names any more once `changes` are made.
    pub(super) fn released_by(&self, changes: &[Change]) -> Vec<LayerKey> {
        let mut deltas: BTreeMap<&LayerKey, isize> = BTreeMap::new();
        let is_new = |change: &Change| match change {
            Change::AddSnapshot(record) => self.by_id(record.id).is_none(),
            _ => false,
        };
        // Most changes are one new snapshot, on layers that a hundred others name.
        if changes.iter().all(is_new) {
            return Vec::new();
        }
        for change in changes {
            let (old, new) = match change {
                Change::AddSnapshot(record) | Change::UpdateSnapshot(record) => {
                    (self.by_id(record.id), Some(record))
                }
                Change::RemoveSnapshot(id) => (self.by_id(*id), None),
                Change::AddLayer(_) | Change::UpdateLayer(_) | Change::RemoveLayer(_) => continue,
            };
            old.into_iter().flat_map(|old| old.layers()).for_each(|key| *deltas.entry(key).or_default() -= 1);
            new.into_iter().flat_map(|new| new.layers()).for_each(|key| *deltas.entry(key).or_default() += 1);
        }
        let unused = |key: &LayerKey, delta| {
            let references = self.references.get(key).copied().unwrap_or(0);
            references.checked_add_signed(delta) == Some(0)
        };
        let released =
            deltas.into_iter().filter(|(key, delta)| unused(key, *delta) && self.layers.contains_key(*key));
        released.map(|(key, _)| key.clone()).collect()
    }

    /// Makes a change that is durable already.
    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::AddSnapshot(record) | Change::UpdateSnapshot(record) => {
                self.remove_snapshot(record.id);
                self.insert_snapshot(Arc::clone(record));
            }
            Change::RemoveSnapshot(id) => {
                self.chains.forget(*id);
                self.remove_snapshot(*id);
            }
            Change::AddLayer(record) | Change::UpdateLayer(record) => {
                self.remove_layer(&record.key);
                self.insert_layer(Arc::clone(record));
            }
            Change::RemoveLayer(key) => self.remove_layer(key),
        }
    }

    fn insert_snapshot(&mut self, record: Arc<Record>) {
        self.names.entry(record.profile.clone()).or_default().insert(record.key.clone(), record.id);
        if let Some(parent) = &record.parent {
            increment(&mut self.children, (record.profile.clone(), parent.clone()));
        }
        for key in record.layers() {
            increment(&mut self.references, key.clone());
        }
        self.snapshots.insert(record.id, record);
    }

    fn remove_snapshot(&mut self, id: SnapshotId) {
        let Some(record) = self.snapshots.remove(&id) else { return };
        if let Some(keys) = self.names.get_mut(&record.profile) {
            keys.remove(&record.key);
        }
        if let Some(parent) = &record.parent {
            decrement(&mut self.children, &(record.profile.clone(), parent.clone()));
        }
        for key in record.layers() {
            decrement(&mut self.references, key);
        }
    }

    fn insert_layer(&mut self, record: Arc<LayerRecord>) {
        for blob in record.content().into_iter().flat_map(|content| &content.blobs) {
            self.blobs.entry(*blob).or_default().insert(record.key.clone());
        }
        self.layers.insert(record.key.clone(), record);
    }

    fn remove_layer(&mut self, key: &LayerKey) {
        let Some(record) = self.layers.remove(key) else { return };
        self.chains.forget_all();
        for blob in record.content().into_iter().flat_map(|content| &content.blobs) {
            if let Some(keys) = self.blobs.get_mut(blob) {
                keys.remove(key);
                if keys.is_empty() {
                    self.blobs.remove(blob);
                }
            }
        }
    }
}

fn is_made(layer: &LayerRecord, recipe: &Recipe) -> bool {
    layer.layout == recipe.version() && layer.content().is_some_and(|content| content.recipe == *recipe)
}

fn increment<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: K) {
    *counts.entry(key).or_default() += 1;
}

/// Counts down; what reaches zero has no entry.
fn decrement<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
impl Index {
    /// Asserts that what is derived is what the records say.
    pub(super) fn assert_derived(&self) {
        let records = self.snapshots.values().map(|record| Record::clone(record));
        let layers = self.layers.values().map(|layer| LayerRecord::clone(layer));
        let fresh = Self::new(records, layers).unwrap();
        let names = |index: &Self| {
            let keys = index.names.iter().flat_map(|(profile, keys)| {
                keys.iter().map(move |(key, id)| (profile.clone(), key.clone(), *id))
            });
            keys.collect::<Vec<_>>()
        };
        assert_eq!(names(self), names(&fresh));
        assert_eq!(self.children, fresh.children);
        assert_eq!(self.references, fresh.references);
        assert_eq!(self.blobs, fresh.blobs);
        for (top, chain) in self.chains.all() {
            let below = self.by_id(top).map(|record| fresh.walk(record).unwrap());
            assert!(matches!(below, Some(Below::Chain(walked)) if walked == chain), "{chain:?}");
        }
    }
}
