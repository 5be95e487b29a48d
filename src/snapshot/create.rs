//! Prepare and View: a new snapshot, with what its plan names.

use std::sync::Arc;
use std::time::SystemTime;

use super::directory::Content;
use super::index::{Below, Chain, Change};
use super::record::{Active, Naming, Record, SnapshotId, State, is_extraction};
use super::settings::Profile;
use super::{Error, Labels, Snapshotter};
use crate::expose::mount::Mount;
use crate::expose::plan::{Flavour, Lower, Writable};
use crate::store;

/// What a new snapshot is for.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    View,
    Active(Writable),
}

impl Snapshotter {
    /// Makes an active snapshot and returns its mounts.
    ///
    /// On a snapshot whose layer is still to be made of what was written, it waits for that.
    ///
    /// One to extract a layer into, as its label or its key says, gets a directory; otherwise the
    /// profile says whether it writes to a block or to a directory.
    ///
    /// # Errors
    /// [`Error::UnknownProfile`], [`Error::AlreadyExists`], [`Error::ParentNotFound`],
    /// [`Error::ParentNotCommitted`], [`Error::NotSealed`], or if the disk is full or fails.
    pub fn prepare(
        &self,
        profile: &str,
        key: &str,
        parent: Option<&str>,
        labels: Labels,
    ) -> Result<Vec<Mount>, Error> {
        let writable = match self.profile(profile)?.default_size {
            _ if is_extraction(key, &labels) => Writable::Extraction,
            0 => Writable::Directory,
            _ => Writable::Block,
        };
        self.create(profile, key, parent, labels, Purpose::Active(writable))
    }

    /// Makes a read-only snapshot and returns its mounts.
    ///
    /// # Errors
    /// As [`Snapshotter::prepare`].
    pub fn view(
        &self,
        profile: &str,
        key: &str,
        parent: Option<&str>,
        labels: Labels,
    ) -> Result<Vec<Mount>, Error> {
        self.create(profile, key, parent, labels, Purpose::View)
    }

    fn create(
        &self,
        profile_name: &str,
        key: &str,
        parent: Option<&str>,
        labels: Labels,
        purpose: Purpose,
    ) -> Result<Vec<Mount>, Error> {
        let profile = self.profile(profile_name)?;
        if key.is_empty() {
            return Err(Error::EmptyKey);
        }
        let parent = parent.filter(|parent| !parent.is_empty());
        let ledger = &self.inner.ledger;
        ledger.read(|index| index.check_free(profile_name, key))?;
        let chain = self.sealed_chain(profile_name, parent)?;
        let naming = Naming {
            id: SnapshotId::new()
                .map_err(store::Error::io("name a directory in", ledger.directories.path()))?,
            profile: profile_name.to_owned(),
            key: key.to_owned(),
            parent: parent.map(str::to_owned),
            labels,
        };
        let state = state(purpose, profile, &chain);
        let record = Arc::new(Record::new(naming, state, SystemTime::now()));
        let content = Content::without_block(&record.state, &chain.root)
            .unwrap_or(Content::Block(profile.default_size, &chain.root));
        let mounts = self.plan(&record)?;
        // The directory comes first: a crash before the record leaves one that nothing names, which
        // the next start sweeps.
        let directory = ledger.directories.build(&record, content, &self.inner.staging)?;
        directory.publish(&ledger.directories.of(record.id))?;
        self.record_new(record, &chain, parent)?;
        Ok(mounts)
    }

    /// What a new snapshot stands on. Waits until the layers of all committed snapshots below are made: a
    /// plan names them, and never changes.
    fn sealed_chain(&self, profile: &str, parent: Option<&str>) -> Result<Chain, Error> {
        loop {
            match self.inner.ledger.read(|index| index.below(profile, parent))? {
                Below::Chain(chain) => return Ok(chain),
                Below::Unsealed(record) => self.inner.sealing.wait(&record)?,
            }
        }
    }

    /// Makes the record of a directory that is in place, if all still is as it was looked up.
    fn record_new(&self, record: Arc<Record>, chain: &Chain, parent: Option<&str>) -> Result<(), Error> {
        let ledger = &self.inner.ledger;
        let id = record.id;
        let result = ledger.change(|index| {
            index.check_free(&record.profile, &record.key)?;
            // The parent may have been removed meanwhile, and even made anew on other layers.
            match index.below(&record.profile, parent)? {
                Below::Chain(found) if found == *chain => Ok(vec![Change::AddSnapshot(record)]),
                _ => {
                    let parent = parent.unwrap_or_default().to_owned();
                    Err(Error::ParentNotFound { profile: record.profile.clone(), parent })
                }
            }
        });
        if result.is_err() && ledger.is_settled() {
            ledger.trash.discard(&ledger.directories.of(id))?;
        }
        result
    }
}

fn state(purpose: Purpose, profile: &Profile, chain: &Chain) -> State {
    let lower = Lower {
        flavour: Flavour::Template,
        layers: chain.layers.clone(),
        overlay_options: profile.overlay_options.iter().map(ToString::to_string).collect(),
    };
    match purpose {
        Purpose::View => State::View(lower),
        Purpose::Active(writable) => State::Active(Active { lower, writable, layer: None }),
    }
}
