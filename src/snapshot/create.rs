//! Prepare and View: a new snapshot, with what its plan names.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use super::chain::Chain;
use super::directory::Content;
use super::index::{Below, Change};
use super::record::{Active, Naming, Record, SnapshotId, State, is_extraction};
use super::requested::{self, BLOCK_SIZES, DIRECTORY_SIZES};
use super::settings::Profile;
use super::{Error, Labels, Snapshotter, exported, host, treeless};
use crate::config::{self, ProjectQuota, VerityMode};
use crate::expose::block;
use crate::expose::idmap::IdMapping;
use crate::expose::mount::Mount;
use crate::expose::plan::{Flavour, Lower, MOST_CHECKED, Padding, Writable};
use crate::expose::quota::Quota;
use crate::layer::LayerKey;
use crate::store;

/// What a new snapshot is for.
#[derive(Clone, Debug)]
enum Purpose {
    /// To be read.
    View(Option<IdMapping>),
    /// To have a layer extracted into it.
    Extraction,
    /// To be written to, in a directory with or without a limit, or in a block of so many bytes.
    Directory(Option<Quota>, Option<IdMapping>),
    Block(u64, Option<IdMapping>),
}

impl Snapshotter {
    /// Makes an active snapshot and returns its mounts.
    ///
    /// On a snapshot whose layer is still to be made of what was written, it waits for that.
    ///
    /// One to extract a layer into, as its label or its key says, gets a directory; otherwise the
    /// profile says whether it writes to a block or to a directory. Labels may limit the size of a
    /// block, and may say which user namespace it is for.
    ///
    /// # Errors
    /// [`Error::UnknownProfile`], [`Error::InvalidLabel`], [`Error::AlreadyExists`],
    /// [`Error::ParentNotFound`], [`Error::ParentNotCommitted`], [`Error::NotSealed`],
    /// [`Error::NoVerity`], [`Error::Tampered`], or if the disk is full or fails. In the host flavour also [`Error::Host`], if the layers cannot be mounted; in that for vhost-user [`Error::Export`].
    pub fn prepare(
        &self,
        profile: &str,
        key: &str,
        parent: Option<&str>,
        labels: Labels,
    ) -> Result<Vec<Mount>, Error> {
        let purpose = match self.profile(profile)?.default_size {
            // Its owners are those of the layer.
            _ if is_extraction(key, &labels) => Purpose::Extraction,
            0 => Purpose::Directory(self.quota(profile, &labels)?, self.mapping(profile, &labels)?),
            default_size => {
                let wanted = requested::max_size(&labels, &BLOCK_SIZES)?.map(block::rounded_size);
                Purpose::Block(wanted.unwrap_or(default_size), self.mapping(profile, &labels)?)
            }
        };
        self.create(profile, key, parent, labels, purpose)
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
        let mapping = self.mapping(profile, &labels)?;
        self.create(profile, key, parent, labels, Purpose::View(mapping))
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
        let (state, content) = self.beginning(purpose, profile, &chain)?;
        let record = Arc::new(Record::new(naming, state, SystemTime::now()));
        self.check_seals(&record)?;
        let mounts = self.plan(&record)?;
        // The directory comes first: a crash before the record leaves one that nothing names, which
        // the next start sweeps.
        let directory = ledger.directories.build(&record, &content, &self.inner.staging)?;
        directory.publish(&ledger.directories.of(record.id))?;
        self.record_new(Arc::clone(&record), &chain, parent)?;
        self.attach_new(&record)?;
        ledger.directories.stock.replenish(content);
        Ok(mounts)
    }

    /// What a new snapshot stands on. Waits until the layers of all committed snapshots below are made: a
    /// plan names them, and never changes.
    fn sealed_chain(&self, profile: &str, parent: Option<&str>) -> Result<Arc<Chain>, Error> {
        loop {
            match self.inner.ledger.read(|index| index.below(profile, parent))? {
                Below::Chain(chain) => return Ok(chain),
                Below::Unsealed(record) => self.inner.sealing.wait(&record)?,
            }
        }
    }

    /// The layers of whose dm-verity trees the plan is to tell.
    fn verity(&self, mode: VerityMode, chain: &Chain) -> Result<BTreeSet<LayerKey>, Error> {
        let without = chain.layers.iter().find(|layer| !chain.verity.contains(*layer));
        match (mode, without) {
            (VerityMode::Off, _) => Ok(BTreeSet::new()),
            (VerityMode::Require, Some(layer)) => Err(treeless::refusal(&self.inner.ledger.shelf, layer)),
            (VerityMode::Auto | VerityMode::Require, _) => Ok(chain.verity.clone()),
        }
    }

    /// The state of a new snapshot, and what lies in its directory.
    fn beginning(
        &self,
        purpose: Purpose,
        profile: &Profile,
        chain: &Chain,
    ) -> Result<(State, Content), Error> {
        let verity = self.verity(profile.verity, chain)?;
        // Nobody runs on what a layer is unpacked over.
        let (merged, padding) = match purpose {
            Purpose::Extraction => (None, Padding::NONE),
            // What checks the layers while they are read knows their own files only.
            // A disk of ours is checked by our own process, whatever lies around the layers, and needs none of
            // those that pad a plan.
            _ if profile.flavour == config::Flavour::VhostUser => {
                (self.merged(profile, chain)?, Padding::NONE)
            }
            _ if !verity.is_empty() => (None, padding(profile, chain)?),
            _ => (self.merged(profile, chain)?, padding(profile, chain)?),
        };
        let mut lower = Lower {
            flavour: match (profile.flavour, &purpose) {
                (config::Flavour::Raw, _) => Flavour::Raw,
                // A layer is extracted on the host.
                (config::Flavour::VhostUser, Purpose::Extraction) => Flavour::Template,
                (config::Flavour::VhostUser, _) => Flavour::VhostUser,
                (config::Flavour::Template | config::Flavour::Host, _) => Flavour::Template,
            },
            layers: chain.layers.clone(),
            merged,
            padding,
            verity,
            overlay_options: profile.overlay_options.iter().map(ToString::to_string).collect(),
            mapping: None,
        };
        if profile.flavour == config::Flavour::Host {
            lower.flavour = Flavour::Host { names: self.inner.ledger.mounts.names_of(&lower.subjects())? };
        }
        let (state, size) = state(purpose, lower);
        let content = match &state {
            State::Active(active) if active.writable == Writable::Block => {
                Some(Content::block(size, &active.lower, &chain.root))
            }
            state => Content::without_block(state, &chain.root),
        };
        Ok((state, content.unwrap_or(Content::Record)))
    }

    /// The user namespace that the labels name. Plans for guests have no mount that could shift owners.
    fn mapping(&self, profile: &str, labels: &Labels) -> Result<Option<IdMapping>, Error> {
        let mapping = requested::id_mapping(labels)?;
        match (self.profile(profile)?.flavour, mapping) {
            (config::Flavour::Raw | config::Flavour::VhostUser, Some(_)) => {
                Err(requested::no_user_namespaces())
            }
            (_, mapping) => Ok(mapping),
        }
    }

    /// The limit that a directory is to have, as the labels and the profile say.
    fn quota(&self, profile: &str, labels: &Labels) -> Result<Option<Quota>, Error> {
        let Some(bytes) = requested::max_size(labels, &DIRECTORY_SIZES)? else { return Ok(None) };
        let ledger = &self.inner.ledger;
        let quotas = &ledger.directories.quotas;
        match self.profile(profile)?.project_quota {
            ProjectQuota::Off => Ok(None),
            _ if quotas.are_enforced() => {
                let taken: BTreeSet<u32> = ledger.read(|index| {
                    index.snapshots().filter_map(|record| Some(record.quota()?.project)).collect()
                });
                Ok(Some(quotas.choose(bytes, |project| taken.contains(&project))?))
            }
            ProjectQuota::Auto => Ok(None),
            ProjectQuota::Require => Err(Error::NoQuota { directory: ledger.directories.path().to_owned() }),
        }
    }

    /// Mounts what the plan of a new snapshot names. If that fails, there is no such snapshot.
    fn attach_new(&self, record: &Record) -> Result<(), Error> {
        let ledger = &self.inner.ledger;
        host::attach(ledger, record).or_else(|error| {
            exported::detach(ledger, record);
            ledger.change(|_| Ok(vec![Change::RemoveSnapshot(record.id)]))?;
            Err(error)
        })
    }

    /// Makes the record of a directory that is in place, if all still is as it was looked up.
    fn record_new(&self, record: Arc<Record>, chain: &Arc<Chain>, parent: Option<&str>) -> Result<(), Error> {
        let ledger = &self.inner.ledger;
        let id = record.id;
        let written = Arc::clone(&record);
        let result = ledger.change(|index| {
            index.check_free(&record.profile, &record.key)?;
            // The parent may have been removed meanwhile, and even made anew on other layers, or on the
            // same that are to be mounted under other names now.
            match index.below(&record.profile, parent)? {
                Below::Chain(found) if found == *chain && host::is_current(ledger, &record) => {
                    Ok(vec![Change::AddSnapshot(record)])
                }
                _ => {
                    let parent = parent.unwrap_or_default().to_owned();
                    Err(Error::ParentNotFound { profile: record.profile.clone(), parent })
                }
            }
        });
        if result.is_err() && ledger.is_settled() {
            ledger.directories.lift(&written);
            ledger.trash.discard(&ledger.directories.of(id))?;
        }
        result
    }
}

/// What lies under the layers of a plan. The host flavour needs nothing there: the daemon mounts for itself.
fn padding(profile: &Profile, chain: &Chain) -> Result<Padding, Error> {
    let layers = chain.layers.len();
    let is_checked =
        profile.verity != VerityMode::Off && (chain.layers.is_empty() || !chain.verity.is_empty());
    match (profile.flavour, is_checked) {
        (config::Flavour::Host | config::Flavour::VhostUser, _) => Ok(Padding::NONE),
        (_, false) => Ok(Padding::of_unchecked(layers)),
        (_, true) if layers > MOST_CHECKED => Err(Error::TooManyLayers { layers, most: MOST_CHECKED }),
        (_, true) => Ok(Padding::of_checked(layers)),
    }
}

/// The state of a new snapshot, and the size of its block, if it has one.
fn state(purpose: Purpose, lower: Lower) -> (State, u64) {
    let lower = |mapping| Lower { mapping, ..lower };
    let active = |lower, writable, quota| State::Active(Active { lower, writable, layer: None, quota });
    match purpose {
        Purpose::View(mapping) => (State::View(lower(mapping)), 0),
        Purpose::Extraction => (active(lower(None), Writable::Extraction, None), 0),
        Purpose::Directory(quota, mapping) => (active(lower(mapping), Writable::Directory, quota), 0),
        Purpose::Block(size, mapping) => (active(lower(mapping), Writable::Block, None), size),
    }
}
