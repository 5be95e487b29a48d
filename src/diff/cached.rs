//! A layer that is in one of the operator's caches: proven instead of written.

use std::convert::Infallible;
use std::path::Path;

use super::Applied;
use super::content::Blob;
use super::error::Error;
use super::work::Work;
use crate::layer::cache::transfer::{self, Purpose, Transfer};
use crate::layer::cache::{Entry, LayerCache, proof};
use crate::layer::{HashTree, LayerRecord};

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
        let (hash_tree, how) = match self.transfer(entry, &path) {
            Ok(transferred) => transferred,
            Err(error) => {
                refuse(entry, error.as_ref());
                return Ok((self, None));
            }
        };
        // A difference is no reason to end the pass: whether the blob is whole shows at its end.
        let pass = self.pass(blob, |tar| Ok::<_, Infallible>(proof::read(tar, &path, hash_tree)));
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
        let record = LayerRecord::from_tar(tar.digest, tar.bytes, proven.image_bytes, proven.root, blob)
            .with_verity(proven.verity);
        let layer = self.snapshots.attach_built(&self.claim, staging, record)?;
        tracing::info!(
            %blob, layer = %layer.key, diff_id = %layer.content.diff_id, file = %entry.path().display(), how = how.text(),
            "took a layer from a cache"
        );
        let applied = self.applied(&layer);
        Ok((self, Some(applied)))
    }
}

impl Work {
    /// Makes the file `path` of a cached one, and says whether it is to have a dm-verity tree: one that the
    /// cache has is kept.
    fn transfer(
        &self,
        entry: &Entry,
        path: &Path,
    ) -> Result<(HashTree, Transfer), Box<dyn std::error::Error>> {
        let has = entry.check()?.hash_tree;
        let (hash_tree, is_changed) = match (has, self.snapshots.hash_tree()) {
            (HashTree::With, _) => (HashTree::With, false),
            (HashTree::Without, wanted) => (wanted, wanted == HashTree::With),
        };
        let is_sealed = self.snapshots.protection().fsverity;
        let purpose = if is_changed || is_sealed { Purpose::Change } else { Purpose::Read };
        Ok((hash_tree, transfer::transfer(entry.path(), path, purpose)?))
    }
}

/// Tells the operator why a file of a cache is of no use.
fn refuse(entry: &Entry, reason: &(dyn std::error::Error + 'static)) {
    tracing::warn!(file = %entry.path().display(), reason, "a file of a layer cache is not taken");
}
