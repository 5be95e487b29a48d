//! Makes the file of a layer, each recipe in its own way, and attaches it.

use super::Applied;
use super::content::Blob;
use super::error::Error;
use super::pass::Measured;
use super::work::Work;
use crate::layer::build::Built;
use crate::layer::{FromBlob, LayerRecord, Recipe, Staging, adopt, build, mkfs};

impl Work {
    /// Builds the layer and attaches it.
    pub(super) fn build(self, blob: Blob) -> Result<Applied, Error> {
        let staging = self.snapshots.staging()?;
        let route = blob.route;
        let (built, content) = match &self.recipe {
            Recipe::Native => self.build_native(&staging, blob)?,
            Recipe::Erofs => self.adopt(&staging, blob)?,
            Recipe::Mkfs(_) | Recipe::TarIndex(_) => self.build_with_mkfs(&staging, blob)?,
        };
        self.ensure_wanted()?;
        let (blob, recipe) = (self.descriptor.digest, self.recipe.clone());
        let Measured { digest: diff_id, bytes } = content;
        let content = FromBlob { diff_id, bytes, blobs: [blob].into(), recipe };
        let record = LayerRecord::from_blob(content, built.image_bytes, built.root).with_verity(built.verity);
        let layer = self.snapshots.attach_built(&self.claim, staging, record)?;
        tracing::info!(
            %blob, layer = %layer.key, %diff_id, route, entries = built.entries, tar_bytes = bytes,
            image_bytes = layer.image_bytes, "built a layer"
        );
        Ok(self.applied(&layer))
    }

    /// Writes the file while the tar streams by.
    fn build_native(&self, staging: &Staging, blob: Blob) -> Result<(Built, Measured), Error> {
        let path = staging.layer_path();
        let pass = self.pass(blob, |tar| build::read(tar, &path, self.snapshots.hash_tree()));
        let (unsealed, tar) = self.checked(pass, Error::Build)?;
        Ok((unsealed.seal(&tar.digest).map_err(Error::Build)?, tar))
    }

    /// Has mkfs.erofs write the file while the tar streams by.
    fn build_with_mkfs(&self, staging: &Staging, blob: Blob) -> Result<(Built, Measured), Error> {
        let path = staging.layer_path();
        let (recipe, stop) = (&self.recipe, || self.cancel.is_cancelled());
        let pass = self.pass(blob, |tar| mkfs::read(tar, &path, recipe, &stop));
        let (unsealed, tar) = self.checked(pass, Error::Mkfs)?;
        self.ensure_wanted()?;
        let built = unsealed.seal(recipe, &tar.digest, self.snapshots.hash_tree()).map_err(Error::Mkfs)?;
        Ok((built, tar))
    }

    /// Stores the EROFS image that the blob holds. It is looked at only when its digest is known to be right,
    /// so that a damaged blob is not taken for a bad image.
    fn adopt(&self, staging: &Staging, blob: Blob) -> Result<(Built, Measured), Error> {
        let path = staging.layer_path();
        let refused = |source| Error::Adopt { blob: self.descriptor.digest, source };
        let pass = self.pass(blob, |image| adopt::store(image, &path));
        let (stored, image) = self.checked(pass, refused)?;
        self.ensure_wanted()?;
        let hash_tree = self.snapshots.hash_tree();
        Ok((stored.seal(hash_tree, &image.digest).map_err(refused)?, image))
    }
}
