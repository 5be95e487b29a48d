//! A layer that is in one of the operator's caches: proven instead of written.

use std::convert::Infallible;

use super::Applied;
use super::content::Blob;
use super::error::Error;
use super::work::Work;
use crate::layer::LayerRecord;
use crate::layer::cache::{Entry, LayerCache, proof, transfer};

impl Work {
    /// The announced layer's file in the first cache that has one that can be taken.
    pub(super) fn find_cached(self, caches: &[LayerCache]) -> (Self, Option<Entry>) {
        // Caches have the project's own layout only.
        let hint = self.hint.filter(|_| self.recipe.is_native());
        let found = caches.iter().filter_map(|cache| cache.find(&hint?));
        let usable = |entry: &Entry| entry.check().inspect_err(|reason| refuse(entry, reason)).is_ok();
        let entry = found.into_iter().find(usable);
        (self, entry)
    }

    /// Takes a cached file for the layer, if it is bit for bit what the blob gives. `None` if it is not, or
    /// cannot be had: then the layer has to be built.
    pub(super) fn take_cached(self, entry: &Entry, blob: Blob) -> Result<(Self, Option<Applied>), Error> {
        let staging = self.snapshots.staging()?;
        let path = staging.layer_path();
        let how = match transfer::transfer(entry.path(), &path) {
            Ok(how) => how,
            Err(error) => {
                refuse(entry, &error);
                return Ok((self, None));
            }
        };
        // A difference is no reason to end the pass: whether the blob is whole shows at its end.
        let pass = self.pass(blob, |tar| Ok::<_, Infallible>(proof::read(tar, &path)));
        let (compared, tar) = self.checked(pass, |never| match never {})?;
        let proven = match compared.and_then(|unproven| unproven.finish(&tar.digest)) {
            Ok(proven) => proven,
            Err(error) => {
                refuse(entry, &error);
                return Ok((self, None));
            }
        };
        self.ensure_wanted()?;
        let blob = self.descriptor.digest;
        let record = LayerRecord::from_tar(tar.digest, tar.bytes, proven.image_bytes, proven.root, blob);
        let layer = self.snapshots.attach_built(&self.claim, staging, record)?;
        tracing::info!(
            %blob, layer = %layer.key, diff_id = %layer.content.diff_id, file = %entry.path().display(), how = how.text(),
            "took a layer from a cache"
        );
        let applied = self.applied(&layer);
        Ok((self, Some(applied)))
    }
}

/// Tells the operator why a file of a cache is of no use.
fn refuse(entry: &Entry, reason: &(dyn std::error::Error + 'static)) {
    tracing::warn!(file = %entry.path().display(), reason, "a file of a layer cache is not taken");
}
