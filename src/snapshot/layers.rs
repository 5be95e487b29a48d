//! What a differ needs: the snapshot that mounts belong to, and layers to attach to it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::index::{Change, Index};
use super::keyed::KeyedGuard;
use super::record::{Record, SnapshotId};
use super::{Error, Snapshotter};
use crate::expose::mount::Mount;
use crate::expose::plan::{BLOCK_NAME, BLOCK_UPPER_NAME, UPPER_NAME};
use crate::image::digest::Digest;
use crate::layer::shelf::Found;
use crate::layer::{
    BlobLayer, FromBlob, HashTree, LayerKey, LayerRecord, Protection, Recipe, Source, Staging,
};

/// The active snapshot that mounts belong to. While a claim lives, nobody else gets one for the
/// same snapshot.
#[derive(Debug)]
pub struct Claim {
    snapshot: SnapshotId,
    _apply: KeyedGuard<SnapshotId>,
}

impl Claim {
    pub(super) const fn snapshot(&self) -> SnapshotId {
        self.snapshot
    }

    /// The error for a snapshot that was removed while it was claimed.
    pub(super) fn removed(&self) -> Error {
        Error::Removed { id: self.snapshot.to_string() }
    }
}

impl Snapshotter {
    /// Whether `mounts` name a snapshot or a layer of ours.
    #[must_use]
    pub fn owns(&self, mounts: &[Mount]) -> bool {
        mounts.iter().any(|mount| self.is_layer(mount) || self.writable_in(mount).next().is_some())
    }

    /// The active snapshot that `mounts` are the plan of. None if they are not ours.
    ///
    /// Waits until the layer that is being applied to the same snapshot, if any, is done. That can
    /// take as long as the layer takes.
    ///
    /// # Errors
    /// If the mounts are ours but no layer can be applied through them: [`Error::ReadOnlyMounts`],
    /// [`Error::NotActive`], [`Error::Removed`], [`Error::SeveralSnapshots`], [`Error::Written`].
    pub fn claim(&self, mounts: &[Mount]) -> Result<Option<Claim>, Error> {
        let writable: BTreeSet<SnapshotId> =
            mounts.iter().flat_map(|mount| self.writable_in(mount)).collect();
        let mut ids = writable.into_iter();
        match (ids.next(), ids.next()) {
            (None, _) if mounts.iter().any(|mount| self.is_layer(mount)) => Err(Error::ReadOnlyMounts),
            (None, _) => Ok(None),
            (Some(_), Some(_)) => Err(Error::SeveralSnapshots),
            (Some(id), None) => {
                let claim = Claim { snapshot: id, _apply: self.inner.applies.lock(id) };
                self.check_unwritten(id)?;
                Ok(Some(claim))
            }
        }
    }

    /// The layer that a compressed blob is known to give in this way, if its file is whole.
    #[must_use]
    pub fn layer_of_blob(&self, blob: &Digest, recipe: &Recipe) -> Option<BlobLayer> {
        self.whole(self.inner.ledger.read(|index| index.layer_of_blob(blob, recipe).cloned()))
    }

    /// The layer that content with this digest gives in this way, if its file is whole.
    #[must_use]
    pub fn layer_of_diff(&self, diff_id: &Digest, recipe: &Recipe) -> Option<BlobLayer> {
        self.whole(self.inner.ledger.read(|index| index.layer_of_diff(diff_id, recipe).cloned()))
    }

    /// A layer whose file is damaged counts as none, so that the next pull builds it again.
    fn whole(&self, layer: Option<Arc<LayerRecord>>) -> Option<BlobLayer> {
        layer.filter(|layer| self.is_whole(layer))?.blob_layer()
    }

    fn is_whole(&self, layer: &LayerRecord) -> bool {
        match self.inner.ledger.shelf.check(layer) {
            Found::Whole => true,
            Found::Broken { reason } => {
                tracing::error!(layer = %layer.key, reason, "a layer's file is damaged: it is built again");
                false
            }
        }
    }

    /// The uncompressed digest that the client announced for a snapshot, which need not be true.
    #[must_use]
    pub fn diff_id_hint(&self, claim: &Claim) -> Option<Digest> {
        self.inner.ledger.read(|index| index.by_id(claim.snapshot)?.announced_diff_id())
    }

    /// Whether a layer of a blob that is made gets a dm-verity tree: if a profile wants trees, and as long as
    /// a plan tells of one, since a damaged layer has to come back as plans know it.
    #[must_use]
    pub fn hash_tree(&self) -> HashTree {
        let tells = |record: &Arc<Record>| record.lower().is_some_and(|lower| !lower.verity.is_empty());
        match self.inner.settings.hash_tree() {
            HashTree::Without if self.inner.ledger.read(|index| index.snapshots().any(tells)) => {
                HashTree::With
            }
            wanted => wanted,
        }
    }

    /// What keeps the files of layers from being changed.
    #[must_use]
    pub fn protection(&self) -> Protection {
        self.inner.settings.protection
    }

    /// A directory to build a layer in.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn staging(&self) -> Result<Staging, Error> {
        Ok(Staging::new(self.inner.staging.scratch()?))
    }

    /// Attaches a layer that exists, in place of any that was attached before. None if there is none
    /// with this diffID that was made in this way, or its file is damaged: then it has to be built.
    ///
    /// `blob` is a compressed digest that gives this layer, verified by the caller.
    ///
    /// # Errors
    /// [`Error::Removed`] or [`Error::NotActive`] if the snapshot changed meanwhile.
    pub fn attach_existing(
        &self,
        claim: &Claim,
        recipe: &Recipe,
        diff_id: &Digest,
        blob: &Digest,
    ) -> Result<Option<BlobLayer>, Error> {
        let key = LayerKey::made(recipe, recipe.version(), diff_id);
        let (blobs, recipe) = (BTreeSet::from([*blob]), recipe.clone());
        self.share(claim, &key, &FromBlob { diff_id: *diff_id, bytes: 0, blobs, recipe })
    }

    /// Attaches a layer that was just built, in place of any that was attached before. If the same
    /// layer exists already, that one is taken and `staging` is dropped.
    ///
    /// # Errors
    /// As [`Snapshotter::attach_existing`]; if `record` does not describe what is in `staging`, if
    /// another layer has the same key, or if the disk is full or fails.
    pub fn attach_built(
        &self,
        claim: &Claim,
        staging: Staging,
        record: LayerRecord,
    ) -> Result<BlobLayer, Error> {
        let Some(layer) = record.blob_layer().filter(|_| record.is_consistent()) else {
            return Err(Error::InconsistentLayer { key: record.key });
        };
        let _publication = self.inner.publications.lock(layer.key.clone());
        if let Some(existing) = self.share(claim, &layer.key, &layer.content)? {
            return Ok(existing);
        }
        self.inner.ledger.publish(staging, record, |index| with_layer(index, claim, &layer.key))?;
        Ok(layer)
    }

    /// Attaches the layer with this key, if it is whole, and notes further blobs that give it.
    fn share(&self, claim: &Claim, key: &LayerKey, wanted: &FromBlob) -> Result<Option<BlobLayer>, Error> {
        let ledger = &self.inner.ledger;
        let mut shared = None;
        ledger.change(|index| {
            let Some(layer) = index.layer(key) else { return Ok(Vec::new()) };
            let Some(mut content) = layer.content().cloned() else { return Ok(Vec::new()) };
            if content.diff_id != wanted.diff_id || content.recipe != wanted.recipe {
                let (key, found) = (key.clone(), content.diff_id);
                return Err(Error::KeyCollision { key, found, expected: wanted.diff_id });
            }
            if !self.is_whole(layer) {
                return Ok(Vec::new());
            }
            let mut changes = vec![Change::UpdateSnapshot(with_layer(index, claim, key)?)];
            let is_news = !content.blobs.is_superset(&wanted.blobs);
            content.blobs.extend(&wanted.blobs);
            let layer = LayerRecord { source: Source::FromBlob(content), ..LayerRecord::clone(layer) };
            shared = layer.blob_layer();
            if is_news {
                changes.push(Change::UpdateLayer(Arc::new(layer)));
            }
            Ok(changes)
        })?;
        Ok(shared)
    }

    /// The snapshots whose writable place this mount names.
    fn writable_in<'a>(&'a self, mount: &'a Mount) -> impl Iterator<Item = SnapshotId> + 'a {
        let upper = mount.options.iter().filter_map(|option| option.strip_prefix("upperdir="));
        upper.chain([mount.source.as_str()]).filter_map(|path| {
            let (id, name) =
                path.strip_prefix(&self.inner.texts.snapshots)?.strip_prefix('/')?.split_once('/')?;
            matches!(name, UPPER_NAME | BLOCK_NAME | BLOCK_UPPER_NAME).then(|| id.parse().ok())?
        })
    }

    fn is_layer(&self, mount: &Mount) -> bool {
        let texts = &self.inner.texts;
        let ours = |path: &str| {
            let path = Path::new(path);
            [&texts.layers, &texts.chains, &texts.empty, &texts.mounts]
                .iter()
                .any(|place| path.starts_with(place))
        };
        let mut lower = mount.options.iter().filter_map(|option| option.strip_prefix("lowerdir="));
        ours(&mount.source) || lower.any(ours)
    }

    /// Refuses a snapshot that was written to: a layer replaces what is there, and nothing may be lost.
    fn check_unwritten(&self, id: SnapshotId) -> Result<(), Error> {
        let ledger = &self.inner.ledger;
        let record = ledger.read(|index| active_record(index, id).map(Arc::clone))?;
        ledger.directories.check_unwritten(&record)
    }
}

fn active_record(index: &Index, id: SnapshotId) -> Result<&Arc<Record>, Error> {
    let record = index.by_id(id).ok_or_else(|| Error::Removed { id: id.to_string() })?;
    record.active().map(|_| record)
}

/// The claimed snapshot with another layer.
fn with_layer(index: &Index, claim: &Claim, layer: &LayerKey) -> Result<Arc<Record>, Error> {
    let record = active_record(index, claim.snapshot)?;
    Ok(Arc::new(record.with_layer(layer.clone())?))
}
