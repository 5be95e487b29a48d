//! What unpacking a layer does on threads that may block.

use tokio::sync::OwnedSemaphorePermit;

use super::content::Blob;
use super::error::Error;
use super::media::{self, Declared};
use super::pass::{self, Cancel, Failure, Measured, Pass, TarStream};
use super::turns::Turn;
use super::{Applied, Descriptor, Piece};
use crate::image::digest::Digest;
use crate::layer::LayerRecord;
use crate::layer::build;
use crate::snapshot::{Claim, Snapshotter};

/// A layer to be shared or built.
pub(super) struct Work {
    pub(super) snapshots: Snapshotter,
    pub(super) claim: Claim,
    pub(super) descriptor: Descriptor,
    pub(super) declared: Declared,
    /// The diffID that the client announces, which need not be true.
    pub(super) hint: Option<Digest>,
    pub(super) blob: Blob,
    pub(super) cancel: Cancel,
    pub(super) _held: Held,
}

/// What is held as long as the work goes on, also after the request for it was dropped.
#[expect(dead_code, reason = "held for their drop")]
pub(super) struct Held {
    pub(super) snapshot: Turn<Piece>,
    pub(super) blob: Turn<Piece>,
    pub(super) layer: Option<Turn<Piece>>,
    pub(super) permit: OwnedSemaphorePermit,
}

impl Work {
    /// Attaches a layer that exists already, if the blob is known or found to give it.
    pub(super) fn share(mut self) -> Result<(Self, Option<Applied>), Error> {
        let layer = match self.known_blob()? {
            Some(layer) => Some(layer),
            None => self.announced_layer()?,
        };
        if let Some(layer) = &layer {
            tracing::info!(blob = %self.descriptor.digest, layer = %layer.key, "shared a layer");
        }
        Ok((self, layer.as_ref().map(applied)))
    }

    /// Whether the blob has to be opened anew.
    pub(super) const fn has_read_blob(&self) -> bool {
        self.blob.is_read
    }

    /// Builds the layer and attaches it.
    pub(super) fn build(mut self) -> Result<Applied, Error> {
        let staging = self.snapshots.staging()?;
        let path = staging.layer_path();
        let pass = self.pass(|tar| build::read(tar, &path));
        let (unsealed, tar) = self.checked(pass, Error::Build)?;
        let built = unsealed.seal(&tar.digest).map_err(Error::Build)?;
        self.ensure_wanted()?;
        let (blob, route) = (self.descriptor.digest, self.blob.route);
        let record = LayerRecord::new(tar.digest, tar.bytes, built.image_bytes, built.root, blob);
        let layer = self.snapshots.attach_built(&self.claim, staging, record)?;
        tracing::info!(
            %blob, layer = %layer.key, diff_id = %layer.diff_id, route, entries = built.entries,
            tar_bytes = layer.tar_bytes, image_bytes = layer.image_bytes, "built a layer"
        );
        Ok(applied(&layer))
    }

    /// The layer that exactly this blob gave before.
    fn known_blob(&self) -> Result<Option<LayerRecord>, Error> {
        let Some(layer) = self.snapshots.layer_of_blob(&self.descriptor.digest) else { return Ok(None) };
        self.ensure_wanted()?;
        Ok(self.snapshots.attach_existing(&self.claim, &layer.diff_id, &self.descriptor.digest)?)
    }

    /// The layer that the client announces, if it exists and the blob does give it. That is checked,
    /// because a layer must never be reached through a blob that does not hold it.
    fn announced_layer(&mut self) -> Result<Option<LayerRecord>, Error> {
        let layer = self.hint.and_then(|diff_id| self.snapshots.layer_of_diff(&diff_id));
        let Some(layer) = layer else { return Ok(None) };
        let blob = self.descriptor.digest;
        let pass = self.pass(|tar| std::io::copy(tar, &mut std::io::sink()).map(drop));
        let ((), tar) = self.checked(pass, |source| Error::ReadBlob { blob, source })?;
        if tar.digest != layer.diff_id {
            return Err(Error::WrongLayer { expected: layer.diff_id, found: tar.digest });
        }
        Ok(self.snapshots.attach_existing(&self.claim, &layer.diff_id, &blob)?)
    }

    fn ensure_wanted(&self) -> Result<(), Error> {
        if self.cancel.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    fn pass<T, E>(&mut self, consume: impl FnOnce(&mut TarStream) -> Result<T, E>) -> Pass<T, E> {
        self.blob.is_read = true;
        pass::run(&mut *self.blob.bytes, self.declared, &self.cancel, consume)
    }

    /// The result of a pass over a blob that is what its descriptor says. A wrong digest is the
    /// reason to give even where the content was refused too: a damaged blob explains the rest.
    fn checked<T, E>(
        &self,
        pass: Pass<T, E>,
        refused: impl FnOnce(E) -> Error,
    ) -> Result<(T, Measured), Error> {
        let blob = self.descriptor.digest;
        let result = match pass.result {
            Err(Failure::Cancelled) => return Err(Error::Cancelled),
            Err(Failure::Source(source)) => return Err(Error::ReadBlob { blob, source }),
            Err(Failure::Panicked(thread)) => return Err(Error::ThreadPanicked(thread)),
            Err(Failure::Content(source)) => Err(Error::Content { blob, source }),
            Err(Failure::Consume(error)) => Err(refused(error)),
            Ok(value) => Ok((value, pass.tar)),
        };
        if pass.blob.digest != blob || pass.blob.bytes != self.blob.size {
            let (found, bytes, expected) = (pass.blob.digest, pass.blob.bytes, self.blob.size);
            return Err(Error::DamagedBlob { blob, expected, found, bytes });
        }
        self.ensure_wanted()?;
        result
    }
}

fn applied(layer: &LayerRecord) -> Applied {
    Applied { media_type: media::OCI_TAR.to_owned(), digest: layer.diff_id, size: layer.tar_bytes }
}
