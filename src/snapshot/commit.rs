//! Commit: an active snapshot becomes immutable under its final name.

use std::sync::Arc;
use std::time::SystemTime;

use super::directory::WRITABLE_NAMES;
use super::index::{Change, Index};
use super::record::{Committed, Record};
use super::{Error, Labels, Snapshotter};

impl Snapshotter {
    /// Commits an active snapshot that a layer was applied to. Its time does not depend on the size
    /// of the layer: one transaction, one small file.
    ///
    /// `labels` replace those of the active snapshot. With `parent`, a snapshot that was made on
    /// none is put on that one.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] for `name`, [`Error::NotFound`] for `key`, [`Error::NotActive`],
    /// [`Error::ParentChange`], [`Error::ParentNotFound`], [`Error::RebaseOntoUncommitted`];
    /// [`Error::NotExtracted`] if no layer was applied, and [`Error::Written`] if something was
    /// written besides: then the snapshot stays as it is.
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
        let ledger = &self.inner.ledger;
        let mut committed_id = None;
        ledger.change(|index| {
            index.check_free(profile, name)?;
            let record = index.existing(profile, key)?;
            let active = record.active()?;
            let parent = record.parent_at_commit(parent)?;
            check_parent(index, record, parent.as_deref())?;
            let layer = active.layer.clone().ok_or_else(|| Error::NotExtracted { key: key.to_owned() })?;
            // What is deleted below must hold nothing that somebody wrote beside the layer.
            ledger.directories.check_unwritten(record)?;
            let usage = ledger.shelf.usage(&layer)?.into();
            let record = record.commit(name, parent, labels, Committed { layer, usage }, SystemTime::now());
            committed_id = Some(record.id);
            Ok(vec![Change::UpdateSnapshot(Arc::new(record))])
        })?;
        if let Some(id) = committed_id {
            let directory = ledger.directories.of(id);
            WRITABLE_NAMES.iter().for_each(|name| ledger.trash.delete(directory.join(name)));
        }
        Ok(())
    }
}

fn check_parent(index: &Index, record: &Record, parent: Option<&str>) -> Result<(), Error> {
    let Some(parent) = parent else { return Ok(()) };
    let Some(found) = index.snapshot(&record.profile, parent) else {
        return Err(Error::ParentNotFound { profile: record.profile.clone(), parent: parent.to_owned() });
    };
    match found.committed() {
        Some(_) => Ok(()),
        None => Err(Error::RebaseOntoUncommitted { parent: parent.to_owned() }),
    }
}
