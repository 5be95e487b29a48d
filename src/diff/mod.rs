//! Apply: a layer blob of containerd's content store in, an EROFS layer out.
//!
//! The diff service of containerd asks every differ in turn, so the first question is whether the
//! mounts are ours at all. Then a layer is built once, whoever asks for it and however often:
//!
//! 1. a blob that gave a layer before, in any namespace, is that layer;
//! 2. a blob that should give a layer which exists (the diff-id label says so) is decompressed and
//!    its digests compared, and no file is written;
//! 3. everything else goes through one [`pass`] that checks, converts and stores it.

mod chunk;
mod content;
mod error;
mod media;
mod pass;
mod turns;

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

pub use content::{ContentStore, Error as ContentError};
pub use error::Error;
pub use media::{Compression, Unsupported};
pub use pass::BadContent;

use crate::expose::mount::Mount;
use crate::image::digest::Digest;
use crate::layer::build::{self, Unsealed};
use crate::layer::{LayerRecord, Staging};
use crate::snapshot::{Claim, Snapshotter};
use content::Blob;
use media::Declared;
use pass::{Cancel, Failure, Measured, Pass};
use turns::Turns;

/// A layer blob as its manifest describes it.
#[derive(Clone, Debug)]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// Digest of the blob as stored.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// One request to unpack a layer.
#[derive(Clone, Debug)]
pub struct ApplyRequest {
    /// The containerd namespace that must be able to see the blob.
    pub namespace: String,
    /// The blob.
    pub descriptor: Descriptor,
    /// The mounts of the active snapshot that takes the layer, as its plan gave them.
    pub mounts: Vec<Mount>,
}

/// The uncompressed layer, as containerd compares it with the image's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Always the OCI type of an uncompressed tar.
    pub media_type: String,
    /// Digest of the uncompressed tar: the diffID.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// The differ. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Differ {
    snapshots: Snapshotter,
    content: ContentStore,
    turns: Arc<Turns<Digest>>,
    budget: Arc<Semaphore>,
}

/// What a layer is checked against, and built from, on the threads of one pass.
struct Work {
    snapshots: Snapshotter,
    claim: Claim,
    descriptor: Descriptor,
    declared: Declared,
    blob: Blob,
    cancel: Cancel,
}

/// Cancels a pass when the request that waits for it is dropped.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Differ {
    /// A differ that stores its layers with `snapshots` and reads blobs from `content`. At most
    /// `passes` layers are unpacked at the same time; each uses up to three threads.
    #[must_use]
    pub fn new(snapshots: Snapshotter, content: ContentStore, passes: usize) -> Self {
        Self { snapshots, content, turns: Arc::default(), budget: Arc::new(Semaphore::new(passes.max(1))) }
    }

    /// Unpacks a layer into the active snapshot that `request.mounts` belong to.
    ///
    /// The layer is durable when this returns. Dropping the future cancels the work; whatever it
    /// wrote is removed, and the snapshot can be tried again.
    ///
    /// # Errors
    /// [`Error::NotOurs`] for mounts of another snapshotter, and a reason of its own for whatever
    /// else can be wrong with the blob, its content or this machine.
    pub async fn apply(&self, request: ApplyRequest) -> Result<Applied, Error> {
        let ApplyRequest { namespace, descriptor, mounts } = request;
        let claim = self.claim(mounts).await?;
        let declared = media::declared(&descriptor.media_type)?;
        let hint = self.snapshots.diff_id_hint(&claim);
        // Always the blob first and the diffID second, so that two requests cannot wait for each other.
        let _blob_turn = self.turns.take(descriptor.digest).await;
        let _layer_turn = match hint {
            Some(diff_id) if diff_id != descriptor.digest => Some(self.turns.take(diff_id).await),
            _ => None,
        };
        let _permit = self.budget.acquire().await.map_err(|_| Error::Stopping)?;
        let blob = self.content.open(&namespace, &descriptor.digest).await?;
        let cancel = Cancel::default();
        let _guard = CancelOnDrop(cancel.clone());
        let work = Work { snapshots: self.snapshots.clone(), claim, descriptor, declared, blob, cancel };
        blocking(move || work.run()).await
    }

    async fn claim(&self, mounts: Vec<Mount>) -> Result<Claim, Error> {
        let snapshots = self.snapshots.clone();
        blocking(move || Ok(snapshots.claim(&mounts)?)).await?.ok_or(Error::NotOurs)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    spawn_blocking(work).await.unwrap_or_else(|panicked| Err(Error::Panicked(panicked)))
}

impl Work {
    fn run(mut self) -> Result<Applied, Error> {
        let (digest, route) = (self.descriptor.digest, self.blob.route);
        if let Some(layer) = self.known_blob()? {
            tracing::info!(blob = %digest, layer = %layer.key, "shared a layer that this blob gave before");
            return Ok(applied(&layer));
        }
        if let Some(layer) = self.expected_layer()? {
            tracing::info!(blob = %digest, layer = %layer.key, route, "shared a layer that another blob gave");
            return Ok(applied(&layer));
        }
        let (layer, entries) = self.build()?;
        tracing::info!(
            blob = %digest, layer = %layer.key, diff_id = %layer.diff_id, route, entries,
            tar_bytes = layer.tar_bytes, image_bytes = layer.image_bytes, "built a layer"
        );
        Ok(applied(&layer))
    }

    /// The layer that exactly this blob gave before.
    fn known_blob(&self) -> Result<Option<LayerRecord>, Error> {
        let Some(layer) = self.snapshots.layer_of_blob(&self.descriptor.digest) else { return Ok(None) };
        Ok(self.snapshots.attach_existing(&self.claim, &layer.diff_id, &self.descriptor.digest)?)
    }

    /// The layer that this blob should give, if it exists and the blob does give it. What the label
    /// says is checked, because a layer must never be reached through a blob that does not hold it.
    fn expected_layer(&mut self) -> Result<Option<LayerRecord>, Error> {
        let hint = self.snapshots.diff_id_hint(&self.claim);
        let Some(layer) = hint.and_then(|diff_id| self.snapshots.layer_of_diff(&diff_id)) else {
            return Ok(None);
        };
        let blob = self.descriptor.digest;
        let pass = self.pass(|tar| std::io::copy(tar, &mut std::io::sink()).map(drop));
        let ((), tar) = self.checked(pass, |source| Error::ReadBlob { blob, source })?;
        if tar.digest != layer.diff_id {
            return Err(Error::WrongLayer { expected: layer.diff_id, found: tar.digest });
        }
        let layer = self.snapshots.attach_existing(&self.claim, &layer.diff_id, &self.descriptor.digest)?;
        // The layer can only go while this blob is read when its last snapshot is removed meanwhile.
        layer.map(Some).ok_or(Error::LayerVanished { diff_id: tar.digest })
    }

    fn build(&mut self) -> Result<(LayerRecord, u64), Error> {
        let staging = self.snapshots.staging()?;
        let path = staging.layer_path();
        let pass = self.pass(|tar| build::read(tar, &path));
        let (unsealed, tar) = self.checked(pass, Error::Build)?;
        self.store(staging, unsealed, tar)
    }

    fn store(
        &self,
        staging: Staging,
        unsealed: Unsealed,
        tar: Measured,
    ) -> Result<(LayerRecord, u64), Error> {
        let built = unsealed.seal(&tar.digest).map_err(Error::Build)?;
        let blob = self.descriptor.digest;
        let record = LayerRecord::new(tar.digest, tar.bytes, built.image_bytes, built.root, blob);
        Ok((self.snapshots.attach_built(&self.claim, staging, record)?, built.entries))
    }

    fn pass<T, E>(&mut self, consume: impl FnOnce(&mut pass::TarStream) -> Result<T, E>) -> Pass<T, E> {
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
        result
    }
}

fn applied(layer: &LayerRecord) -> Applied {
    Applied { media_type: media::OCI_TAR.to_owned(), digest: layer.diff_id, size: layer.tar_bytes }
}
