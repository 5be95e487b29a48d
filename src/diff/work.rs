//! What unpacking a layer does on threads that may block.

use tokio::sync::OwnedSemaphorePermit;

use super::content::Blob;
use super::error::Error;
use super::media::Media;
use super::pass::{self, Cancel, Failure, Measured, Pass, TarStream};
use super::turns::Turn;
use super::{Applied, Descriptor, Piece};
use crate::image::digest::Digest;
use crate::layer::{BlobLayer, Recipe};
use crate::snapshot::{Claim, Snapshotter};

/// A layer to be shared or built.
pub(super) struct Work {
    pub(super) snapshots: Snapshotter,
    pub(super) claim: Claim,
    pub(super) descriptor: Descriptor,
    pub(super) media: Media,
    /// How a layer is made of what the blob holds.
    pub(super) recipe: Recipe,
    /// The diffID that the client announces, which need not be true.
    pub(super) hint: Option<Digest>,
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
    /// Attaches the layer that exactly this blob gave before, if there is one.
    pub(super) fn share_known(self) -> Result<(Self, Option<Applied>), Error> {
        match self.snapshots.layer_of_blob(&self.descriptor.digest, &self.recipe) {
            Some(layer) => self.attach(&layer.content.diff_id),
            None => Ok((self, None)),
        }
    }

    /// The layer that the client announces, if it exists.
    pub(super) fn announced_layer(&self) -> Option<BlobLayer> {
        self.hint.and_then(|diff_id| self.snapshots.layer_of_diff(&diff_id, &self.recipe))
    }

    /// Attaches the layer that the client announces, if it exists and the blob does give it. That is
    /// checked, because a layer must never be reached through a blob that does not hold it.
    pub(super) fn share_announced(self, blob: Blob) -> Result<(Self, Option<Applied>), Error> {
        let Some(layer) = self.announced_layer() else { return Ok((self, None)) };
        let digest = self.descriptor.digest;
        let pass = self.pass(blob, |tar| std::io::copy(tar, &mut std::io::sink()).map(drop));
        let ((), tar) = self.checked(pass, |source| Error::ReadBlob { blob: digest, source })?;
        if tar.digest != layer.content.diff_id {
            return Err(Error::WrongLayer { expected: layer.content.diff_id, found: tar.digest });
        }
        self.attach(&layer.content.diff_id)
    }

    /// Attaches a layer that the blob is known to give; `None` if it has to be built after all.
    fn attach(self, diff_id: &Digest) -> Result<(Self, Option<Applied>), Error> {
        self.ensure_wanted()?;
        let blob = self.descriptor.digest;
        let layer = self.snapshots.attach_existing(&self.claim, &self.recipe, diff_id, &blob)?;
        if let Some(layer) = &layer {
            tracing::info!(%blob, layer = %layer.key, "shared a layer");
        }
        let applied = layer.as_ref().map(|layer| self.applied(layer));
        Ok((self, applied))
    }

    pub(super) fn ensure_wanted(&self) -> Result<(), Error> {
        if self.cancel.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    pub(super) fn pass<T, E>(
        &self,
        mut blob: Blob,
        consume: impl FnOnce(&mut TarStream) -> Result<T, E>,
    ) -> Pass<T, E> {
        pass::run(&mut *blob.bytes, self.media.compression, &self.cancel, consume)
    }

    /// The result of a pass over a blob that is what its descriptor says. A wrong digest is the
    /// reason to give even where the content was refused too: a damaged blob explains the rest.
    pub(super) fn checked<T, E>(
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
        if pass.blob.digest != blob || pass.blob.bytes != self.descriptor.size {
            let (found, bytes, expected) = (pass.blob.digest, pass.blob.bytes, self.descriptor.size);
            return Err(Error::DamagedBlob { blob, expected, found, bytes });
        }
        self.ensure_wanted()?;
        result
    }

    /// What containerd is told of a layer.
    pub(super) fn applied(&self, layer: &BlobLayer) -> Applied {
        let media_type = self.media.decompressed.clone();
        Applied { media_type, digest: layer.content.diff_id, size: layer.content.bytes }
    }
}
