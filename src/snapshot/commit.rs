//! Commit: an active snapshot becomes immutable under its final name.
//!
//! containerd holds its own database's lock meanwhile. So nothing here depends on the size of what was
//! written, but for one case: what a virtual machine still has open is read while it promises not to write.

use std::sync::Arc;
use std::time::SystemTime;

use super::index::{Change, Index};
use super::model::QUIESCED_LABEL;
use super::record::{Active, Committed, Record, State};
use super::{Error, Labels, Snapshotter, exported};
use crate::expose::block::{self, Holder};
use crate::expose::plan::Writable;
use crate::sys::locks::Exclusive;

/// What a commit asks for.
struct Request<'r> {
    profile: &'r str,
    name: &'r str,
    key: &'r str,
    parent: Option<&'r str>,
    labels: Labels,
}

/// Who has what a snapshot wrote to.
enum Held {
    /// We, or a mount on this host. With what keeps virtual machines from a block.
    ByUs(Option<Exclusive>),
    /// A virtual machine that promised not to write meanwhile.
    ByQuietGuest,
}

impl Snapshotter {
    /// Commits an active snapshot: with the layer that was applied to it, or with what was written to it,
    /// of which a layer is made afterwards. Who asks for a snapshot on it waits for that; nobody else does.
    ///
    /// `labels` replace those of the active snapshot. With `parent`, a snapshot that was made on
    /// none is put on that one.
    ///
    /// A writable block that a virtual machine has open is refused, unless the snapshot has the label
    /// [`QUIESCED_LABEL`]: then the layer is made before this returns.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] for `name`, [`Error::NotFound`] for `key`, [`Error::NotActive`],
    /// [`Error::ParentChange`], [`Error::ParentNotFound`], [`Error::RebaseOntoUncommitted`];
    /// [`Error::Written`] if a layer was applied and something was written besides, and
    /// [`Error::BlockHeld`]: then the snapshot stays as it is.
    pub fn commit(
        &self,
        profile: &str,
        name: &str,
        key: &str,
        parent: Option<&str>,
        labels: Labels,
    ) -> Result<(), Error> {
        if name.is_empty() {
            return Err(Error::EmptyKey);
        }
        let parent = parent.filter(|parent| !parent.is_empty());
        let request = Request { profile, name, key, parent, labels };
        let record = self.inner.ledger.read(|index| request.check(index).map(Arc::clone))?;
        exported::take_back(&self.inner.ledger, &record, request.is_of_quiet_guest(&record))?;
        let committed = self.hold(&record, &request).and_then(|held| match held {
            Held::ByUs(block) => self.commit_now(request, block),
            Held::ByQuietGuest => self.commit_quiesced(&record, request),
        });
        if let Err(error) = committed {
            // It stays as it was, with what it had.
            if let Err(error) = exported::attach(&self.inner.ledger, &record) {
                tracing::error!(%error, key, "a snapshot's disks are not served again: the next start tries");
            }
            return Err(error);
        }
        self.inner.ledger.directories.lift(&record);
        exported::leave(&self.inner.ledger, &record);
        Ok(())
    }

    /// Takes what the snapshot wrote to, unless a virtual machine has it.
    fn hold(&self, record: &Record, request: &Request<'_>) -> Result<Held, Error> {
        let is_block = |active: &Active| active.layer.is_none() && active.writable == Writable::Block;
        if !record.active().is_ok_and(is_block) {
            return Ok(Held::ByUs(None));
        }
        match block::reserve(&self.inner.ledger.directories.block(record.id))? {
            Some(block) => Ok(Held::ByUs(Some(block))),
            None if request.is_of_quiet_guest(record) => Ok(Held::ByQuietGuest),
            None => Err(Error::BlockHeld { key: record.key.clone() }),
        }
    }

    /// One transaction, and one small file. No virtual machine gets the block before the record says that it is
    /// committed; from then on [`Workshop::seal`](super::seal::Workshop::seal) sees to that.
    fn commit_now(&self, request: Request<'_>, block: Option<Exclusive>) -> Result<(), Error> {
        let ledger = &self.inner.ledger;
        let mut committed = None;
        ledger.change(|index| {
            let record = request.check(index)?;
            let active = record.active()?;
            let state = match &active.layer {
                Some(layer) => {
                    // What is deleted below must hold nothing that somebody wrote beside the layer.
                    ledger.directories.check_unwritten(record)?;
                    let usage = ledger.shelf.usage(layer)?.into();
                    State::Committed(Committed { layer: layer.clone(), usage })
                }
                None => State::Unsealed(active.unsealed()),
            };
            let record = Arc::new(request.committed(record, state)?);
            committed = Some(Arc::clone(&record));
            Ok(vec![Change::UpdateSnapshot(record)])
        })?;
        drop(block);
        let sealing = &self.inner.sealing;
        match committed {
            Some(record) if record.unsealed().is_some() => sealing.submit(record.id),
            Some(record) => sealing.workshop().discard_written(record.id),
            None => {}
        }
        Ok(())
    }

    /// Makes the layer first: once the call is answered, the guest goes on writing.
    fn commit_quiesced(&self, record: &Record, request: Request<'_>) -> Result<(), Error> {
        let ledger = &self.inner.ledger;
        let workshop = self.inner.sealing.workshop();
        let (id, written) = (record.id, record.active()?.unsealed());
        let (staging, layer) = workshop.convert(id, &written, Holder::QuiescedGuest, &|| false)?;
        let key = layer.key.clone();
        let _publication = self.inner.publications.lock(key.clone());
        // Another commit of the same may have been faster, and its layer is in use.
        ledger.read(|index| request.check(index).map(drop))?;
        ledger.publish(staging, layer, |index| {
            let record = request.check(index)?;
            let usage = ledger.shelf.usage(&key)?.into();
            let state = State::Committed(Committed { layer: key.clone(), usage });
            Ok(Arc::new(request.committed(record, state)?))
        })?;
        workshop.discard_written(id);
        Ok(())
    }
}

impl Request<'_> {
    /// Whether a virtual machine that has the block promised not to write to it.
    fn is_of_quiet_guest(&self, record: &Record) -> bool {
        record.labels.contains_key(QUIESCED_LABEL) || self.labels.contains_key(QUIESCED_LABEL)
    }

    /// The snapshot to be committed, if nothing forbids it.
    fn check<'i>(&self, index: &'i Index) -> Result<&'i Arc<Record>, Error> {
        index.check_free(self.profile, self.name)?;
        let record = index.existing(self.profile, self.key)?;
        record.active()?;
        let parent = record.parent_at_commit(self.parent)?;
        check_parent(index, record, parent.as_deref())?;
        Ok(record)
    }

    /// The snapshot as it is once it is committed.
    fn committed(&self, record: &Record, state: State) -> Result<Record, Error> {
        let parent = record.parent_at_commit(self.parent)?;
        Ok(record.commit(self.name, parent, self.labels.clone(), state, SystemTime::now()))
    }
}

fn check_parent(index: &Index, record: &Record, parent: Option<&str>) -> Result<(), Error> {
    let Some(parent) = parent else { return Ok(()) };
    let Some(found) = index.snapshot(&record.profile, parent) else {
        return Err(Error::ParentNotFound { profile: record.profile.clone(), parent: parent.to_owned() });
    };
    match found.is_committed() {
        true => Ok(()),
        false => Err(Error::RebaseOntoUncommitted { parent: parent.to_owned() }),
    }
}
