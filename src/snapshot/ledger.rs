//! The one place where records change: memory, database and directories in step.
//!
//! Readers take a lock that is never held over input or output. Writers queue for the database,
//! and nothing but its transaction and a few renames happens in that queue.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use super::Error;
use super::directory::Directories;
use super::index::{Change, Index};
use crate::expose::export::Exports;
use crate::expose::host::{LayerMounts, Subject};
use crate::layer::Shelf;
use crate::layer::chain::ChainShelf;
use crate::store::database::{Batch, Store, Table};
use crate::store::trash::Trash;

/// Records in memory and in the database, and the directories that they describe.
#[derive(Debug)]
pub(super) struct Ledger {
    index: RwLock<Index>,
    /// Also what makes a change of the index and of what lies in the two directories one step.
    store: Mutex<Store>,
    pub(super) directories: Directories,
    pub(super) shelf: Shelf,
    pub(super) chains: ChainShelf,
    pub(super) mounts: LayerMounts,
    pub(super) trash: Trash,
    /// What is served to virtual machines.
    pub(super) exports: Exports,
    /// Profiles whose layers are mounted checked or not at all.
    strict: BTreeSet<String>,
}

impl Ledger {
    #[allow(clippy::too_many_arguments, reason = "each is a part of the whole, and of another type")]
    pub(super) const fn new(
        index: Index,
        store: Store,
        directories: Directories,
        shelf: Shelf,
        chains: ChainShelf,
        mounts: LayerMounts,
        trash: Trash,
        exports: Exports,
    ) -> Self {
        let strict = BTreeSet::new();
        Self {
            index: RwLock::new(index),
            store: Mutex::new(store),
            directories,
            shelf,
            chains,
            mounts,
            trash,
            exports,
            strict,
        }
    }

    /// The same with profiles whose layers are mounted checked or not at all.
    pub(super) fn with_strict(self, strict: BTreeSet<String>) -> Self {
        Self { strict, ..self }
    }

    /// Whether the layers of this profile are mounted checked or not at all.
    pub(super) fn must_check(&self, profile: &str) -> bool {
        self.strict.contains(profile)
    }

    /// Looks at the records. `look` must not block.
    pub(super) fn read<T>(&self, look: impl FnOnce(&Index) -> T) -> T {
        look(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes the changes that `decide` asks for, all or none, and removes the layers that they leave
    /// unused. Nobody else changes anything between the decision and the end.
    pub(super) fn change(
        &self,
        decide: impl FnOnce(&Index) -> Result<Vec<Change>, Error>,
    ) -> Result<(), Error> {
        let mut store = self.lock();
        let changes = self.read(|index| -> Result<_, Error> {
            let mut changes = decide(index)?;
            let released = index.released_by(&changes);
            changes.extend(released.into_iter().map(Change::RemoveLayer));
            Ok(changes)
        })?;
        if changes.is_empty() {
            return Ok(());
        }
        store.commit(&batch(&changes)?)?;
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        changes.iter().for_each(|change| index.apply(change));
        drop(index);
        // Still in the queue: a layer's place must not be given again before its directory has gone.
        changes.iter().for_each(|change| self.follow(change));
        Ok(())
    }

    /// Does something with the directories that nothing may change meanwhile. It must be short.
    pub(super) fn exclusively<T>(&self, work: impl FnOnce(&Index) -> T) -> T {
        let _store = self.lock();
        self.read(work)
    }

    /// Whether it is known of every change if it happened. If not, a directory that a failed change
    /// was about may be needed after the next start.
    pub(super) fn is_settled(&self) -> bool {
        self.lock().is_settled()
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        // The store settles what a panic in it leaves, and memory changes only after it.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has what is mounted of this taken away. To unmount takes the kernel milliseconds, which nobody in
    /// the queue should wait.
    pub(super) fn detach(&self, subject: &Subject) {
        self.mounts.release(subject).into_iter().for_each(|point| self.trash.delete(point));
    }

    /// Brings the directories in line with a change that is durable. What is not moved away is swept
    /// by the next start; a copy of a record that is out of date matters only to a rebuild, and until
    /// the record changes again.
    fn follow(&self, change: &Change) {
        let followed = match change {
            Change::AddSnapshot(_) | Change::AddLayer(_) => Ok(()),
            Change::UpdateSnapshot(record) => self.directories.write_record(record),
            Change::RemoveSnapshot(id) => self.trash.discard(&self.directories.of(*id)),
            Change::UpdateLayer(record) => self.shelf.write_record(record),
            Change::RemoveLayer(key) => {
                let chains = self.chains.forget_with(key).into_iter().try_for_each(|chain| {
                    self.detach(&Subject::Chain(chain.clone()));
                    self.trash.discard(&self.chains.directory(&chain))
                });
                self.detach(&Subject::Layer(key.clone()));
                chains.and(self.trash.discard(&self.shelf.directory(key)))
            }
        };
        if let Err(error) = followed {
            tracing::warn!(%error, "a directory lags behind the database");
        }
    }
}

/// The changes as the database takes them.
pub(super) fn batch(changes: &[Change]) -> Result<Batch, Error> {
    let mut batch = Batch::default();
    for change in changes {
        match change {
            Change::AddSnapshot(record) | Change::UpdateSnapshot(record) => {
                batch.put(Table::Snapshots, record.id.to_string(), record.as_ref())?;
            }
            Change::RemoveSnapshot(id) => batch.delete(Table::Snapshots, id.to_string()),
            Change::AddLayer(record) | Change::UpdateLayer(record) => {
                batch.put(Table::Layers, record.key.to_string(), record.as_ref())?;
            }
            Change::RemoveLayer(key) => batch.delete(Table::Layers, key.to_string()),
        }
    }
    Ok(batch)
}
