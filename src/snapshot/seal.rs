//! From what a committed snapshot wrote to its layer.

use std::sync::Arc;

use super::Error;
use super::directory::WRITABLE_NAMES;
use super::ledger::Ledger;
use super::record::{Committed, Record, SnapshotId, Unsealed};
use super::unshift::unshift;
use crate::expose::block::{self, Holder, MountedBlock};
use crate::expose::plan::Writable;
use crate::image::tree::Tree;
use crate::layer::{HashTree, LayerRecord, Staging, written};
use crate::store::staging::StagingArea;
use crate::sys::locks::Exclusive;

/// What layers are made with.
#[derive(Debug)]
pub(super) struct Workshop {
    pub(super) ledger: Arc<Ledger>,
    pub(super) staging: StagingArea,
    pub(super) hash_tree: HashTree,
}

impl Workshop {
    /// Makes the layer of a committed snapshot, unless it has one or is not there any more. It can be
    /// interrupted at any point: what was written is kept until the layer is on record.
    pub(super) fn seal(&self, id: SnapshotId, stop: &dyn Fn() -> bool) -> Result<(), Error> {
        let Some(record) = self.ledger.read(|index| index.by_id(id).cloned()) else { return Ok(()) };
        let Some(unsealed) = record.unsealed() else { return Ok(()) };
        if !self.ledger.directories.has_written(id, unsealed.writable) {
            return Err(Error::WrittenLost);
        }
        let _block = self.reserve(&record, unsealed)?;
        let (staging, layer) = self.convert(id, unsealed, Holder::Host, stop)?;
        let (key, image_bytes) = (layer.key.clone(), layer.image_bytes);
        self.ledger.publish(staging, layer, |index| {
            let record = index.by_id(id).filter(|record| record.unsealed().is_some());
            let record = record.ok_or_else(|| Error::Removed { id: id.to_string() })?;
            let usage = self.ledger.shelf.usage(&key)?.into();
            Ok(Arc::new(record.sealed(Committed { layer: key.clone(), usage })))
        })?;
        let (profile, name) = (&record.profile, &record.key);
        tracing::info!(profile, name, layer = %key, image_bytes, "made a layer of what was written");
        self.discard_written(id);
        Ok(())
    }

    /// Keeps virtual machines from a block while it is read.
    fn reserve(&self, record: &Record, unsealed: &Unsealed) -> Result<Option<Exclusive>, Error> {
        if unsealed.writable != Writable::Block {
            return Ok(None);
        }
        let reserved = block::reserve(&self.ledger.directories.block(record.id))?;
        reserved.map(Some).ok_or_else(|| Error::BlockHeld { key: record.key.clone() })
    }

    /// Makes the file of a layer of what a snapshot wrote. The layer's name is the snapshot's, so that a
    /// second attempt gives the same.
    pub(super) fn convert(
        &self,
        id: SnapshotId,
        written: &Unsealed,
        holder: Holder,
        stop: &dyn Fn() -> bool,
    ) -> Result<(Staging, LayerRecord), Error> {
        let staging = Staging::new(self.staging.scratch()?);
        let path = staging.layer_path();
        let adjust = |tree: &mut Tree| {
            if let Some(mapping) = &written.mapping {
                unshift(tree, mapping);
            }
        };
        let layer = match written.writable {
            Writable::Extraction | Writable::Directory => {
                let upper = self.ledger.directories.open_upper(id)?;
                written::build(upper, &path, id, self.hash_tree, &adjust, stop)?
            }
            Writable::Staged => return Err(Error::WrittenLost),
            Writable::Block => {
                let block = MountedBlock::open(&self.ledger.directories.block(id), holder)?;
                written::build(block.upper()?, &path, id, self.hash_tree, &adjust, stop)?
            }
        };
        Ok((staging, layer))
    }

    /// Deletes what a snapshot wrote, behind the caller's back.
    pub(super) fn discard_written(&self, id: SnapshotId) {
        let directory = self.ledger.directories.of(id);
        WRITABLE_NAMES.iter().for_each(|name| self.ledger.trash.delete(directory.join(name)));
    }
}
