//! A layer that was built gets its place and its record, in one step with the snapshot that names it.

use std::sync::Arc;

use super::Error;
use super::index::{Change, Index};
use super::ledger::Ledger;
use super::record::Record;
use crate::expose::host::Subject;
use crate::layer::{LayerKey, LayerRecord, Staging};

impl Ledger {
    /// Gives a built layer its place, and records it together with the snapshot that `name_it` returns.
    /// Nobody else must publish the same layer meanwhile.
    pub(super) fn publish(
        &self,
        staging: Staging,
        record: LayerRecord,
        name_it: impl FnOnce(&Index) -> Result<Arc<Record>, Error>,
    ) -> Result<(), Error> {
        let record = self.place(staging, record)?;
        let key = record.key.clone();
        self.record_placed(record, name_it).inspect_err(|_| self.withdraw(&key))
    }

    /// Gives a built layer its place, and returns the record that lies beside it there.
    pub(super) fn place(&self, staging: Staging, record: LayerRecord) -> Result<LayerRecord, Error> {
        let sealed = staging.seal(record, self.shelf.protection())?;
        let record = sealed.record().clone();
        let key = &record.key;
        // Mounted is the damaged file that this one replaces. Containers that run on it keep it.
        if let Err(error) = self.mounts.unmount(&Subject::Layer(key.clone())) {
            tracing::warn!(%error, layer = %key, "a damaged layer stays mounted");
        }
        self.exclusively(|_| {
            // Left by a change that failed, or damaged.
            self.trash.discard(&self.shelf.directory(key))?;
            self.shelf.place(sealed)
        })?;
        Ok(record)
    }

    /// Makes the place of a layer durable, and records it.
    pub(super) fn record_placed(
        &self,
        record: LayerRecord,
        name_it: impl FnOnce(&Index) -> Result<Arc<Record>, Error>,
    ) -> Result<(), Error> {
        // Not in the ledger's queue: a sync can take as long as all that others are writing.
        self.shelf.sync()?;
        self.change(|index| {
            // Placed for a damaged one, it went with that if the last snapshot on it was removed meanwhile.
            if !self.shelf.image(&record.key).exists() {
                return Err(Error::LayerRemoved { layer: record.key });
            }
            let snapshot = Change::UpdateSnapshot(name_it(index)?);
            Ok(vec![Change::AddLayer(Arc::new(record)), snapshot])
        })
    }

    /// Takes a layer's directory away again, unless a record names it or may name it after a restart.
    fn withdraw(&self, key: &LayerKey) {
        if !self.is_settled() {
            return;
        }
        let withdrawn = self.exclusively(|index| match index.layer(key) {
            Some(_) => Ok(()),
            None => self.trash.discard(&self.shelf.directory(key)),
        });
        if let Err(error) = withdrawn {
            tracing::warn!(%error, layer = %key, "a layer that nobody uses stays until the next start");
        }
    }
}
