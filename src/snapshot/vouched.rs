//! Layers that are there before anybody unpacks them: what Prepare makes of one that somebody vouches for.

use std::sync::Arc;

use super::index::Change;
use super::record::{Active, State};
use super::{Claim, Error, Labels, Snapshotter};
use crate::expose::mount::Mount;
use crate::expose::plan::Writable;
use crate::layer::{LayerRecord, Staging};

/// A layer file that is taken without its tar having been seen.
#[derive(Debug)]
pub struct Vouched {
    /// The directory with the file.
    pub staging: Staging,
    /// What is said about it. A layer of a tar; any other is refused.
    pub record: LayerRecord,
}

impl Snapshotter {
    /// Makes an active snapshot that has its layer already. Its mounts, which are returned, are read-only: a
    /// client that knows what that means applies nothing and commits.
    ///
    /// # Errors
    /// As [`Snapshotter::prepare`], or if the layer cannot be taken; then there is no snapshot.
    pub fn prepare_staged(
        &self,
        profile: &str,
        key: &str,
        parent: Option<&str>,
        labels: Labels,
        layer: Vouched,
    ) -> Result<Vec<Mount>, Error> {
        let claim = self.prepare_claimed(profile, key, parent, labels)?;
        let staged = self.attach_vouched(&claim, layer).and_then(|()| self.stage(&claim));
        self.or_remove(profile, key, staged)?;
        self.mounts(profile, key)
    }

    /// Makes the committed snapshot that a client is about to unpack, under `name`, which is free, and in
    /// place of an active one with `key`.
    ///
    /// # Errors
    /// As [`Snapshotter::prepare_staged`].
    pub fn prepare_committed(
        &self,
        profile: &str,
        (key, name): (&str, &str),
        parent: Option<&str>,
        labels: Labels,
        layer: Vouched,
    ) -> Result<(), Error> {
        let claim = self.prepare_claimed(profile, key, parent, labels.clone())?;
        let attached = self.attach_vouched(&claim, layer);
        let committed = attached.and_then(|()| self.commit(profile, name, key, None, labels));
        self.or_remove(profile, key, committed)
    }

    fn prepare_claimed(
        &self,
        profile: &str,
        key: &str,
        parent: Option<&str>,
        labels: Labels,
    ) -> Result<Claim, Error> {
        let mounts = self.prepare(profile, key, parent, labels)?;
        let claim = self.claim(&mounts);
        self.or_remove(profile, key, claim)?
            .ok_or_else(|| Error::NotFound { profile: profile.to_owned(), key: key.to_owned() })
    }

    /// Attaches the layer; if it is here already, that one.
    fn attach_vouched(&self, claim: &Claim, Vouched { staging, record }: Vouched) -> Result<(), Error> {
        // Nobody has seen a blob give this layer.
        self.attach_built(claim, staging, record.without_blobs()).map(drop)
    }

    /// Changes the plan of a snapshot that nobody was told of yet.
    fn stage(&self, claim: &Claim) -> Result<(), Error> {
        self.inner.ledger.change(|index| {
            let record = index.by_id(claim.snapshot()).ok_or_else(|| claim.removed())?;
            let active = Active { writable: Writable::Staged, ..record.active()?.clone() };
            let mut record = record.as_ref().clone();
            record.state = State::Active(active);
            Ok(vec![Change::UpdateSnapshot(Arc::new(record))])
        })
    }

    /// Removes a snapshot again after a failure.
    fn or_remove<T>(&self, profile: &str, key: &str, result: Result<T, Error>) -> Result<T, Error> {
        if result.is_err()
            && let Err(error) = self.remove(profile, key)
        {
            tracing::warn!(%error, key, "a snapshot that failed stays until containerd collects garbage");
        }
        result
    }
}
