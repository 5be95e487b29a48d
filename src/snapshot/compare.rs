//! What a comparison needs: what the mounts of a snapshot show, and where that lies.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use super::index::Index;
use super::model::QUIESCED_LABEL;
use super::record::{Record, SnapshotId, State};
use super::{Error, Snapshotter, exported};
use crate::expose::block::{self, Holder, MountedBlock};
use crate::expose::idmap::IdMapping;
use crate::expose::mount::Mount;
use crate::expose::plan::Writable;
use crate::layer::{LayerKey, RootAttributes};

/// What the mounts of a view or an active snapshot show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The layers, newest first.
    pub layers: Vec<LayerKey>,
    /// What was written on them; None if nothing can be.
    pub written: Option<Written>,
}

/// What an active snapshot has written, wherever it keeps that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written(Arc<Record>);

/// An open upper directory.
#[derive(Debug)]
pub struct OpenUpper {
    /// The directory.
    pub directory: OwnedFd,
    /// The mount that it is in, if it is in a writable block. Has to live as long as the directory is used.
    pub block: Option<MountedBlock>,
    /// What shifts the owners in it, if something does: [`unshift`](super::unshift) is to be called.
    pub mapping: Option<IdMapping>,
}

impl Snapshotter {
    /// What `mounts` show, which have to be the plan of a view or an active snapshot. None if they are
    /// not ours.
    ///
    /// # Errors
    /// If the mounts are ours but their snapshot is gone or has no mounts; [`Error::SeveralSnapshots`];
    /// [`Error::Written`] if a layer was applied to a snapshot and something was written beside it.
    pub fn shown(&self, mounts: &[Mount]) -> Result<Option<Shown>, Error> {
        let ids: BTreeSet<SnapshotId> = mounts.iter().flat_map(|mount| self.snapshots_in(mount)).collect();
        let mut ids = ids.into_iter();
        match (ids.next(), ids.next()) {
            (Some(_), Some(_)) => Err(Error::SeveralSnapshots),
            (Some(id), None) => {
                let record = self.inner.ledger.read(|index| index.by_id(id).map(Arc::clone));
                let record = record.ok_or_else(|| Error::Removed { id: id.to_string() })?;
                self.shown_of(&record).map(Some)
            }
            // The plan of a view names no directory of its own, unless there is nothing to see.
            (None, _) => match self.inner.ledger.read(|index| self.view_with(index, mounts)) {
                Some(view) => self.shown_of(&view).map(Some),
                None => Ok(None),
            },
        }
    }

    /// Opens what was written, to be read while whoever writes it may go on.
    ///
    /// # Errors
    /// [`Error::BlockHeld`] if a virtual machine has the writable block and did not promise to be quiet; if it
    /// is not there or cannot be mounted.
    pub fn open_written(&self, Written(record): &Written) -> Result<OpenUpper, Error> {
        let directories = &self.inner.ledger.directories;
        let mapping = record.active()?.lower.mapping.clone();
        match record.active()?.writable {
            Writable::Extraction | Writable::Directory => {
                Ok(OpenUpper { directory: directories.open_upper(record.id)?, block: None, mapping })
            }
            Writable::Staged => Err(Error::NoMounts { key: record.key.clone() }),
            Writable::Block => {
                let path = directories.block(record.id);
                // The process that serves it may have ended a moment ago, and its guest waits for the next one.
                let holder = match exported::has_block(record) || block::is_held(&path)? {
                    false => Holder::Host,
                    true if record.labels.contains_key(QUIESCED_LABEL) => Holder::QuiescedGuest,
                    true => return Err(Error::BlockHeld { key: record.key.clone() }),
                };
                let block = MountedBlock::open(&path, holder)?;
                Ok(OpenUpper { directory: block.upper()?, block: Some(block), mapping })
            }
        }
    }

    /// The file of a layer.
    #[must_use]
    pub fn layer_image(&self, layer: &LayerKey) -> PathBuf {
        self.inner.ledger.shelf.image(layer)
    }

    /// The attributes of `/` in a chain of layers, newest first.
    #[must_use]
    pub fn root_attributes(&self, layers: &[LayerKey]) -> RootAttributes {
        self.inner
            .ledger
            .read(|index| layers.iter().find_map(|key| index.layer(key)?.root.clone()).unwrap_or_default())
    }

    /// The snapshots whose directories this mount names.
    fn snapshots_in<'a>(&'a self, mount: &'a Mount) -> impl Iterator<Item = SnapshotId> + 'a {
        let upper = mount.options.iter().filter_map(|option| option.strip_prefix("upperdir="));
        upper.chain([mount.source.as_str()]).filter_map(|path| {
            let rest = path.strip_prefix(&self.inner.texts.snapshots)?.strip_prefix('/')?;
            rest.split('/').next()?.parse().ok()
        })
    }

    /// A view with this plan. Views with the same plan show the same.
    fn view_with(&self, index: &Index, mounts: &[Mount]) -> Option<Arc<Record>> {
        let wanted = places(mounts);
        let has_plan = |record: &&Arc<Record>| {
            matches!(record.state, State::View(_))
                && self.plan(record).is_ok_and(|plan| places(&plan) == wanted)
        };
        index.snapshots().find(has_plan).map(Arc::clone)
    }

    fn shown_of(&self, record: &Arc<Record>) -> Result<Shown, Error> {
        match &record.state {
            State::View(lower) => Ok(Shown { layers: lower.layers.clone(), written: None }),
            State::Committed(_) | State::Unsealed(_) => Err(Error::NoMounts { key: record.key.clone() }),
            State::Active(active) => match &active.layer {
                None => {
                    let written = Some(Written(Arc::clone(record)));
                    Ok(Shown { layers: active.lower.layers.clone(), written })
                }
                Some(layer) => {
                    self.inner.ledger.directories.check_unwritten(record)?;
                    let layers = [layer].into_iter().chain(&active.lower.layers).cloned().collect();
                    Ok(Shown { layers, written: None })
                }
            },
        }
    }
}

/// What tells plans apart. Clients add options of their own to those that we gave.
fn places(plan: &[Mount]) -> Vec<(&str, Option<&str>)> {
    fn place(mount: &Mount) -> (&str, Option<&str>) {
        let lowerdir = mount.options.iter().find(|option| option.starts_with("lowerdir="));
        (mount.source.as_str(), lowerdir.map(String::as_str))
    }
    plan.iter().map(place).collect()
}
