//! Prepare answered from a layer cache, so that the client does not even fetch the layer's blob.
//!
//! containerd has had two protocols for that. Until 2.3, ALREADY_EXISTS makes it look for a committed snapshot
//! by label and parent (`core/metadata/snapshot.go`), so the parent must be known, which it is not where
//! several layers are unpacked at once. From 2.4 on, a plan whose last entry is read-only says the same
//! (`core/unpack/unpacker.go`); an older release would try to write there. So it matters who asks.

use std::path::Path;
use std::sync::Arc;

use nexuserofs_proto::containerd::services::snapshots::v1::{
    PrepareSnapshotRequest, PrepareSnapshotResponse,
};
use tokio::task::spawn_blocking;
use tonic::{Extensions, Response};

use super::convert;
pub use super::release::UnusableAddress;
use super::release::{Release, Releases};
use super::status::Failure;
use crate::image::digest::Digest;
use crate::layer::cache::entry::Checked;
use crate::layer::cache::transfer::{self, Purpose};
use crate::layer::cache::{Entry, LayerCache};
use crate::layer::{HashTree, LayerRecord, open};
use crate::snapshot::model::{DIFF_ID_LABEL, EXTRACTION_LABEL, PARENT_CHAIN_LABEL};
use crate::snapshot::{self, Labels, Snapshotter, Vouched};

/// The caches that are trusted, and who may be told of them.
#[derive(Clone, Debug)]
pub struct CacheHits {
    caches: Arc<[LayerCache]>,
    releases: Releases,
}

/// A layer that a cache has, and how to say so.
#[derive(Debug)]
pub(super) struct Hit {
    entry: Entry,
    protocol: Protocol,
}

/// Why a whole file is not taken.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum Unfit {
    #[error("the record beside it is of another file: add it again")]
    OtherRecord,
    #[error("it has no dm-verity tree, which a profile wants: add it again with --verity")]
    NoTree,
}

/// How a client is told that a layer is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// By a read-only plan.
    Staged,
    /// By ALREADY_EXISTS.
    Remote,
}

impl CacheHits {
    /// Looks into these caches in this order, and asks the containerd at `containerd` for its version.
    ///
    /// # Errors
    /// If the address cannot be dialled.
    pub fn new(
        caches: impl IntoIterator<Item = LayerCache>,
        containerd: &Path,
    ) -> Result<Self, UnusableAddress> {
        Ok(Self { caches: caches.into_iter().collect(), releases: Releases::new(containerd)? })
    }

    /// The cached layer that this request is about, if there is one and the client can be told.
    pub(super) async fn find(&self, request: &PrepareSnapshotRequest, call: &Extensions) -> Option<Hit> {
        let diff_id = diff_id(request)?;
        let caches = Arc::clone(&self.caches);
        // A cache may lie on a disk that is slow or gone, and what speaks gRPC must not wait for one.
        let found = spawn_blocking(move || caches.iter().find_map(|cache| cache.find(&diff_id)));
        let entry = found.await.ok()??;
        let protocol = Protocol::of(self.releases.of(call).await?, request)?;
        Some(Hit { entry, protocol })
    }
}

impl Protocol {
    fn of(release: Release, request: &PrepareSnapshotRequest) -> Option<Self> {
        match release >= Release::STAGED {
            true => Some(Self::Staged),
            false => parent_is_known(request).then_some(Self::Remote),
        }
    }
}

impl Hit {
    /// Answers Prepare. What keeps the layer from being taken is logged, and it is unpacked as usual.
    pub(super) fn answer(
        self,
        domain: &Snapshotter,
        request: PrepareSnapshotRequest,
    ) -> Result<Response<PrepareSnapshotResponse>, Failure> {
        let Some(layer) = self.take(domain) else { return prepare(domain, request) };
        let PrepareSnapshotRequest { snapshotter, key, parent, labels } = &request;
        let parent = convert::parent(parent);
        let answered = match self.protocol {
            Protocol::Staged => {
                domain.prepare_staged(snapshotter, key, parent, labels.clone(), layer).map(Some)
            }
            Protocol::Remote => {
                // containerd finds it by its label and goes by the name that it has there.
                let name = format!("{key} cached");
                domain
                    .prepare_committed(snapshotter, (key, &name), parent, labels.clone(), layer)
                    .map(|()| None)
            }
        };
        match answered {
            Ok(Some(mounts)) => {
                Ok(Response::new(PrepareSnapshotResponse { mounts: convert::mounts_to_wire(mounts) }))
            }
            Ok(None) => Err(snapshot::Error::AlreadyExists {
                profile: request.snapshotter,
                key: request.labels.get(EXTRACTION_LABEL).cloned().unwrap_or_default(),
            }
            .into()),
            Err(error) => {
                self.refuse(&error);
                prepare(domain, request)
            }
        }
    }

    /// A copy of the file, with the record that lies beside it.
    fn take(&self, domain: &Snapshotter) -> Option<Vouched> {
        let refuse = |reason: &(dyn std::error::Error + 'static)| self.refuse(reason);
        let checked = self.entry.check().inspect_err(|error| refuse(error)).ok()?;
        let record = self.entry.record().inspect_err(|error| refuse(error)).ok()??;
        // A whole superblock does not make a whole image, and nothing else looks before a container does.
        open::open(self.entry.path()).inspect_err(|error| refuse(error)).ok()?;
        check_fit(checked, &record, domain.hash_tree()).inspect_err(|error| refuse(error)).ok()?;
        let staging = domain.staging().inspect_err(|error| refuse(error)).ok()?;
        let purpose = if domain.protection().fsverity { Purpose::Change } else { Purpose::Read };
        transfer::transfer(self.entry.path(), &staging.layer_path(), purpose)
            .inspect_err(|error| refuse(error))
            .ok()?;
        Some(Vouched { staging, record })
    }

    fn refuse(&self, reason: &(dyn std::error::Error + 'static)) {
        tracing::warn!(file = %self.entry.path().display(), reason, "a file of a layer cache is not taken");
    }
}

/// Whether a file is as its record says, and as new layers are to be.
fn check_fit(file: Checked, record: &LayerRecord, wanted: HashTree) -> Result<(), Unfit> {
    let recorded = HashTree::wanted(record.verity.is_some());
    if (file.image_bytes, file.hash_tree) != (record.image_bytes, recorded) {
        Err(Unfit::OtherRecord)
    } else if (wanted, recorded) == (HashTree::With, HashTree::Without) {
        Err(Unfit::NoTree)
    } else {
        Ok(())
    }
}

/// Prepare as it is without a cache.
pub(super) fn prepare(
    domain: &Snapshotter,
    request: PrepareSnapshotRequest,
) -> Result<Response<PrepareSnapshotResponse>, Failure> {
    let PrepareSnapshotRequest { snapshotter, key, parent, labels } = request;
    let mounts = domain.prepare(&snapshotter, &key, convert::parent(&parent), labels)?;
    Ok(Response::new(PrepareSnapshotResponse { mounts: convert::mounts_to_wire(mounts) }))
}

/// The layer that a snapshot is made for. Before 2.3 only the lowest one can be told: its chain is itself.
fn diff_id(request: &PrepareSnapshotRequest) -> Option<Digest> {
    let name = label(&request.labels, EXTRACTION_LABEL)?;
    match label(&request.labels, DIFF_ID_LABEL) {
        Some(diff_id) => diff_id.parse().ok(),
        None => request.parent.is_empty().then(|| name.parse().ok())?,
    }
}

/// Whether the snapshot's parent in the image is the one that the request names.
fn parent_is_known(request: &PrepareSnapshotRequest) -> bool {
    !request.parent.is_empty() || label(&request.labels, PARENT_CHAIN_LABEL).is_none()
}

fn label<'a>(labels: &'a Labels, name: &str) -> Option<&'a str> {
    labels.get(name).map(String::as_str).filter(|value| !value.is_empty())
}
