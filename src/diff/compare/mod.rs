//! Compare: what one snapshot has more than another, as a layer in containerd's content store.
//!
//! Nothing is mounted. Layers are EROFS files that are read as such, and what was written to a snapshot
//! is read from where it lies. A comparison goes in these steps:
//!
//! 1. `sides`: both lists of mounts become lists of layers; what the right one has more is wanted.
//! 2. `part`: each of these is opened; several become one by overlayfs's rules (`image::overlay`).
//! 3. `format`, `produce`: the tree becomes a tar stream, that is compressed, and both are digested.
//! 4. `sink`, `upload`: the stream goes to the content store as it comes, under a `lease`.
//!
//! The result is a function of the snapshots' content and the request: a second comparison gives the same
//! bytes.

mod digesting;
mod error;
mod format;
mod lease;
mod part;
mod produce;
mod sides;
mod sink;
mod upload;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;

pub use error::Error;

use super::{Descriptor, Differ, EndOnDrop, blocking};
use crate::expose::mount::Mount;
use crate::image::tree::Timestamp;
use format::Format;
use produce::{Produced, Work};
use sides::Difference;
use sink::Sink;

/// Label of a layer's blob: digest of its uncompressed form.
const UNCOMPRESSED_LABEL: &str = "containerd.io/uncompressed";

/// Pieces of a blob that may wait for the content store.
const DEPTH: usize = 2;

/// One request to compare two snapshots.
#[derive(Clone, Debug)]
pub struct CompareRequest {
    /// The containerd namespace that gets the blob.
    pub namespace: String,
    /// The lease that keeps it; without one a lease is made.
    pub lease: Option<String>,
    /// The mounts of the lower snapshot. None at all stand for an empty one.
    pub left: Vec<Mount>,
    /// The mounts of the upper one.
    pub right: Vec<Mount>,
    /// What kind of layer is wanted; empty for an OCI gzip layer.
    pub media_type: String,
    /// Name of the upload; empty for a name of our own.
    pub reference: String,
    /// Labels of the blob.
    pub labels: BTreeMap<String, String>,
    /// The latest time that the layer may have.
    pub source_date_epoch: Option<Timestamp>,
}

impl Differ {
    /// Writes what the right snapshot has more than the left one into the content store.
    ///
    /// Dropping the future cancels the work and gives the upload up.
    ///
    /// # Errors
    /// [`Error`]; those of the kind "unimplemented" leave the request to another differ.
    pub async fn compare(&self, request: CompareRequest) -> Result<Descriptor, Error> {
        let CompareRequest {
            namespace,
            lease,
            left,
            right,
            media_type,
            reference,
            labels,
            source_date_epoch,
        } = request;
        let snapshots = self.snapshots.clone();
        let difference = blocking(move || Difference::of(&snapshots, &left, &right)).await?;
        let format = Format::of(&media_type)?;
        let permit = Arc::clone(&self.budget).acquire_owned().await.map_err(|_| Error::Stopping)?;
        let caller = lease::ensure(&self.content, namespace, lease).await?;
        let end = EndOnDrop::default();
        let (sender, pieces) = mpsc::channel(DEPTH);
        let sink = Sink::new(sender, end.cancel.clone());
        let snapshots = self.snapshots.clone();
        let work = Work { snapshots, difference, format, source_date_epoch, cancel: end.cancel.clone() };
        let produced = blocking(move || {
            let _permit = permit;
            work.produce(sink)
        });
        let uploaded = upload::write(&self.content, &caller, &reference, pieces);
        let (produced, upload) = tokio::join!(produced, uploaded);
        // When the store refuses, the producer only sees that no one listens any more.
        let upload = upload?;
        let Produced { blob, uncompressed, summary } = produced?;
        let labels = with_uncompressed(labels, &uncompressed.to_string());
        upload.commit(&blob, labels).await?;
        let (entries, sockets) = summary.map(|summary| (summary.entries, summary.sockets)).unzip();
        tracing::info!(
            blob = %blob.digest, bytes = blob.bytes, %uncompressed, entries, sockets, "wrote a difference"
        );
        let media_type = format.media_type().to_owned();
        Ok(Descriptor { media_type, digest: blob.digest, size: blob.bytes })
    }
}

fn with_uncompressed(mut labels: BTreeMap<String, String>, digest: &str) -> BTreeMap<String, String> {
    labels.insert(UNCOMPRESSED_LABEL.to_owned(), digest.to_owned());
    labels
}
