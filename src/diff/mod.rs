//! Apply: a layer blob of containerd's content store in, an EROFS layer out. [`compare`] is the other
//! direction.
//!
//! The diff service of containerd asks every differ in turn, so the first question is whether the
//! mounts are ours at all. Then a layer is built once, whoever asks for it and however often:
//!
//! 1. a blob that gave a layer before, in any namespace, is that layer;
//! 2. a blob that should give a layer which exists (the diff-id label says so) is decompressed and
//!    its digests compared, and no file is written;
//! 3. a layer that one of the operator's caches has is compared with what the blob gives, and its file is
//!    taken if the two are the same;
//! 4. everything else goes through one [`pass`] that checks, converts and stores it.
//!
//! How content becomes a file is a [`Recipe`]: what the content is and how the daemon makes tars into
//! layers decide it, and layers of different recipes are never taken for each other.

mod build;
mod cached;
mod chunk;
pub mod compare;
mod content;
mod error;
mod media;
pub mod offline;
mod pass;
mod tap;
mod turns;
mod work;

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinError, spawn_blocking};
use tracing::Span;

pub use compare::CompareRequest;
pub use content::{ContentStore, Error as ContentError};
pub use error::Error;
pub use media::{Compression, Unsupported};
pub use pass::BadContent;

use crate::expose::mount::Mount;
use crate::image::digest::Digest;
use crate::layer::cache::LayerCache;
use crate::layer::{Content, Recipe};
use crate::snapshot::{Claim, Snapshotter};
use content::Blob;
use pass::Cancel;
use turns::Turns;
use work::{Held, Work};

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

/// The decompressed layer, as containerd compares it with the image's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The OCI type of an uncompressed tar, or the type of an EROFS image.
    pub media_type: String,
    /// Digest of the decompressed blob: the diffID.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// The differ. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Differ {
    snapshots: Snapshotter,
    content: ContentStore,
    caches: Arc<[LayerCache]>,
    tar_recipe: Recipe,
    turns: Arc<Turns<Piece>>,
    budget: Arc<Semaphore>,
}

/// What one request at a time works on. Every request takes at most one of each kind, in this
/// order, so that no two can wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Piece {
    /// The snapshot with a plan of this digest.
    Snapshot(Digest),
    /// A blob.
    Blob(Digest),
    /// The layer that a client announces.
    Layer(Digest),
}

/// Ends the work of a request that was dropped.
#[derive(Default)]
struct EndOnDrop {
    cancel: Cancel,
    stream: Option<AbortHandle>,
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.cancel.cancel();
        if let Some(stream) = &self.stream {
            stream.abort();
        }
    }
}

impl Differ {
    /// A differ that stores its layers with `snapshots` and reads blobs from `content`. At most
    /// `passes` layers are unpacked at the same time; each uses up to three threads.
    #[must_use]
    pub fn new(snapshots: Snapshotter, content: ContentStore, passes: usize) -> Self {
        let budget = Arc::new(Semaphore::new(passes.max(1)));
        let (caches, turns) = (Arc::default(), Arc::default());
        Self { snapshots, content, caches, tar_recipe: Recipe::Native, turns, budget }
    }

    /// The same differ with caches, which it looks into in this order before it builds a layer.
    #[must_use]
    pub fn with_caches(self, caches: impl IntoIterator<Item = LayerCache>) -> Self {
        Self { caches: caches.into_iter().collect(), ..self }
    }

    /// The same differ, which makes layers of tars in this way. A recipe that takes no tars changes nothing.
    #[must_use]
    pub fn with_tar_recipe(self, recipe: Recipe) -> Self {
        if recipe.takes() == Content::Tar { Self { tar_recipe: recipe, ..self } } else { self }
    }

    /// Refuses mounts of another snapshotter, without looking at anything else.
    ///
    /// # Errors
    /// [`Error::NotOurs`].
    pub fn check_ours(&self, mounts: &[Mount]) -> Result<(), Error> {
        if self.snapshots.owns(mounts) { Ok(()) } else { Err(Error::NotOurs) }
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
        let snapshot = self.turns.take(Piece::Snapshot(fingerprint(&mounts))).await;
        let claim = self.claim(mounts).await?;
        let media = media::parse(&descriptor.media_type)?;
        let recipe = match media.content {
            Content::Tar => self.tar_recipe.clone(),
            Content::Erofs => Recipe::Erofs,
        };
        let hint = self.snapshots.diff_id_hint(&claim);
        let blob = self.turns.take(Piece::Blob(descriptor.digest)).await;
        let layer = match hint {
            Some(diff_id) => Some(self.turns.take(Piece::Layer(diff_id)).await),
            None => None,
        };
        let permit = Arc::clone(&self.budget).acquire_owned().await.map_err(|_| Error::Stopping)?;
        self.check_size(&namespace, &descriptor).await?;
        let mut end = EndOnDrop::default();
        let held = Held { snapshot, blob, layer, permit };
        let (snapshots, cancel) = (self.snapshots.clone(), end.cancel.clone());
        let work = Work { snapshots, claim, descriptor, media, recipe, hint, cancel, _held: held };
        let (mut work, known) = blocking(move || work.share_known()).await?;
        if let Some(applied) = known {
            return Ok(applied);
        }
        if work.announced_layer().is_some() {
            let blob = self.open(&namespace, &work.descriptor, &mut end).await?;
            let shared;
            (work, shared) = blocking(move || work.share_announced(blob)).await?;
            if let Some(applied) = shared {
                return Ok(applied);
            }
        }
        let caches = Arc::clone(&self.caches);
        let cached;
        (work, cached) = blocking(move || Ok::<_, Error>(work.find_cached(&caches))).await?;
        if let Some(entry) = cached {
            let blob = self.open(&namespace, &work.descriptor, &mut end).await?;
            let taken;
            (work, taken) = blocking(move || work.take_cached(&entry, blob)).await?;
            if let Some(applied) = taken {
                return Ok(applied);
            }
        }
        let blob = self.open(&namespace, &work.descriptor, &mut end).await?;
        blocking(move || work.build(blob)).await
    }

    async fn claim(&self, mounts: Vec<Mount>) -> Result<Claim, Error> {
        let snapshots = self.snapshots.clone();
        blocking(move || Ok::<_, Error>(snapshots.claim(&mounts)?)).await?.ok_or(Error::NotOurs)
    }

    /// Makes sure that the namespace can see the blob, and that it is as long as its manifest says.
    async fn check_size(&self, namespace: &str, wanted: &Descriptor) -> Result<(), Error> {
        let (blob, expected) = (wanted.digest, wanted.size);
        match self.content.size(namespace, &blob).await? {
            found if found == expected => Ok(()),
            found => Err(Error::WrongSize { blob, expected, found }),
        }
    }

    async fn open(&self, namespace: &str, wanted: &Descriptor, end: &mut EndOnDrop) -> Result<Blob, Error> {
        let blob = self.content.open(namespace, &wanted.digest, wanted.size).await?;
        end.stream.clone_from(&blob.stream);
        Ok(blob)
    }
}

/// Tells plans apart. Equal plans are of one snapshot, since every plan for an active one names its
/// directory.
fn fingerprint(mounts: &[Mount]) -> Digest {
    Digest::of(format!("{mounts:?}").as_bytes())
}

/// Runs work that blocks, as a part of the call that asks for it.
async fn blocking<T: Send + 'static, E: From<JoinError> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    let span = Span::current();
    let done = spawn_blocking(move || span.in_scope(work)).await;
    done.unwrap_or_else(|panicked| Err(E::from(panicked)))
}
