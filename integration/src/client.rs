//! containerd's services, called one after the other for one snapshotter.
//!
//! The daemon serves the same snapshot service as containerd, so the same client calls either of them: at
//! containerd's socket keys are those of a namespace, at the daemon's they are those of containerd's backend.

use std::collections::BTreeMap;
use std::sync::Arc;

use nexuserofs_proto::containerd::services::content::v1::content_client::ContentClient;
use nexuserofs_proto::containerd::services::content::v1::{WriteAction, WriteContentRequest};
use nexuserofs_proto::containerd::services::diff::v1::diff_client::DiffClient;
use nexuserofs_proto::containerd::services::diff::v1::{ApplyRequest, DiffRequest};
use nexuserofs_proto::containerd::services::leases::v1::leases_client::LeasesClient;
use nexuserofs_proto::containerd::services::leases::v1::{CreateRequest, DeleteRequest};
use nexuserofs_proto::containerd::services::snapshots::v1::snapshots_client::SnapshotsClient;
use nexuserofs_proto::containerd::services::snapshots::v1::{
    CleanupRequest, CommitSnapshotRequest, Info, ListSnapshotsRequest, MountsRequest, PrepareSnapshotRequest,
    RemoveSnapshotRequest, StatSnapshotRequest, UsageRequest, UsageResponse, ViewSnapshotRequest,
};
use nexuserofs_proto::containerd::types;
pub use nexuserofs_proto::containerd::types::Mount;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::images::Layer;
use crate::node::connection::Connection;

/// Bytes of content in one message, of which containerd takes no more than 16 MiB.
const CONTENT_MESSAGE: usize = 4 << 20;

/// An answer, or the gRPC code and text of a refusal.
pub type Answer<T> = Result<T, Status>;

/// Labels by name.
pub type Labels = BTreeMap<String, String>;

/// The labels that containerd's unpacker gives a snapshot that a layer is extracted into (2.3,
/// `core/unpack/unpacker.go`).
#[must_use]
pub fn extraction_labels(name: &str, diff_id: &str) -> Labels {
    [("containerd.io/snapshot.ref", name), ("containerd.io/snapshot/diff-id", diff_id)]
        .map(|(label, value)| (label.to_owned(), value.to_owned()))
        .into()
}

/// Calls over one connection for one snapshotter, perhaps under a lease. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    connection: Arc<Connection>,
    snapshotter: String,
    lease: Option<String>,
}

impl Client {
    /// Calls for `snapshotter`, without a lease.
    #[must_use]
    pub fn new(connection: Arc<Connection>, snapshotter: &str) -> Self {
        Self { connection, snapshotter: snapshotter.to_owned(), lease: None }
    }

    /// The same calls for another snapshotter.
    #[must_use]
    pub fn of(&self, snapshotter: &str) -> Self {
        Self { snapshotter: snapshotter.to_owned(), ..self.clone() }
    }

    /// The same calls under a lease, which must exist.
    #[must_use]
    pub fn under(&self, lease: &str) -> Self {
        Self { lease: Some(lease.to_owned()), ..self.clone() }
    }

    /// Name of the snapshotter.
    #[must_use]
    pub fn snapshotter(&self) -> &str {
        &self.snapshotter
    }

    /// Makes an active snapshot; an empty parent means none.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn prepare(&self, key: &str, parent: &str, labels: &Labels) -> Answer<Vec<types::Mount>> {
        let request = self.request(PrepareSnapshotRequest {
            snapshotter: self.snapshotter.clone(),
            key: key.to_owned(),
            parent: parent.to_owned(),
            labels: labels.clone(),
        })?;
        let answer = self.connection.wait_for(async { self.snapshots().prepare(request).await })?;
        Ok(answer.into_inner().mounts)
    }

    /// Makes a view.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn view(&self, key: &str, parent: &str) -> Answer<Vec<types::Mount>> {
        let request = self.request(ViewSnapshotRequest {
            snapshotter: self.snapshotter.clone(),
            key: key.to_owned(),
            parent: parent.to_owned(),
            labels: Labels::new(),
        })?;
        let answer = self.connection.wait_for(async { self.snapshots().view(request).await })?;
        Ok(answer.into_inner().mounts)
    }

    /// The mounts of an active snapshot or a view.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn mounts(&self, key: &str) -> Answer<Vec<types::Mount>> {
        let request =
            self.request(MountsRequest { snapshotter: self.snapshotter.clone(), key: key.to_owned() })?;
        let answer = self.connection.wait_for(async { self.snapshots().mounts(request).await })?;
        Ok(answer.into_inner().mounts)
    }

    /// Commits an active snapshot; with a parent, one without is put on that.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn commit(&self, name: &str, key: &str, parent: &str, labels: &Labels) -> Answer<()> {
        let request = self.request(CommitSnapshotRequest {
            snapshotter: self.snapshotter.clone(),
            name: name.to_owned(),
            key: key.to_owned(),
            labels: labels.clone(),
            parent: parent.to_owned(),
        })?;
        self.connection.wait_for(async { self.snapshots().commit(request).await }).map(drop)
    }

    /// Removes a snapshot.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn remove(&self, key: &str) -> Answer<()> {
        let request = self
            .request(RemoveSnapshotRequest { snapshotter: self.snapshotter.clone(), key: key.to_owned() })?;
        self.connection.wait_for(async { self.snapshots().remove(request).await }).map(drop)
    }

    /// A snapshot's record.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn stat(&self, key: &str) -> Answer<Info> {
        let request =
            self.request(StatSnapshotRequest { snapshotter: self.snapshotter.clone(), key: key.to_owned() })?;
        let answer = self.connection.wait_for(async { self.snapshots().stat(request).await })?;
        answer.into_inner().info.ok_or_else(|| Status::internal("the answer to Stat has no record"))
    }

    /// What a snapshot occupies.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn usage(&self, key: &str) -> Answer<UsageResponse> {
        let request =
            self.request(UsageRequest { snapshotter: self.snapshotter.clone(), key: key.to_owned() })?;
        let answer = self.connection.wait_for(async { self.snapshots().usage(request).await })?;
        Ok(answer.into_inner())
    }

    /// All records of the snapshotter.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn list(&self) -> Answer<Vec<Info>> {
        let request = self
            .request(ListSnapshotsRequest { snapshotter: self.snapshotter.clone(), filters: Vec::new() })?;
        self.connection.wait_for(async {
            let mut stream = self.snapshots().list(request).await?.into_inner();
            let mut infos = Vec::new();
            while let Some(block) = stream.message().await? {
                infos.extend(block.info);
            }
            Ok(infos)
        })
    }

    /// Has the files of removed snapshots deleted. Only the daemon itself serves this for our snapshotters.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn cleanup(&self) -> Answer<()> {
        let request = self.request(CleanupRequest { snapshotter: self.snapshotter.clone() })?;
        self.connection.wait_for(async { self.snapshots().cleanup(request).await }).map(drop)
    }

    /// Unpacks a layer and returns its diffID.
    ///
    /// # Errors
    /// The differ's refusal.
    pub fn apply(&self, layer: &Layer, mounts: Vec<types::Mount>) -> Answer<String> {
        let diff = types::Descriptor {
            media_type: layer.blob.media_type.clone(),
            digest: layer.blob.digest.clone(),
            size: signed(layer.blob.size)?,
            annotations: BTreeMap::new(),
        };
        let request = self.request(ApplyRequest {
            diff: Some(diff),
            mounts,
            payloads: BTreeMap::new(),
            sync_fs: false,
        })?;
        let answer =
            self.connection.wait_for(async { DiffClient::new(self.channel()).apply(request).await })?;
        let applied = answer.into_inner().applied;
        Ok(applied.ok_or_else(|| Status::internal("the answer to Apply has no descriptor"))?.digest)
    }

    /// Has the difference between two lists of mounts written as a layer into the content store.
    ///
    /// # Errors
    /// The differ's refusal.
    pub fn diff(&self, left: Vec<types::Mount>, right: Vec<types::Mount>) -> Answer<types::Descriptor> {
        let request = self.request(DiffRequest { left, right, ..DiffRequest::default() })?;
        let answer =
            self.connection.wait_for(async { DiffClient::new(self.channel()).diff(request).await })?;
        answer.into_inner().diff.ok_or_else(|| Status::internal("the answer to Diff has no descriptor"))
    }

    /// Puts a blob into the content store, unless it is there.
    ///
    /// # Errors
    /// The store's refusal.
    pub fn write(&self, layer: &Layer, bytes: Vec<u8>) -> Answer<()> {
        let total = signed(layer.blob.size)?;
        let mut messages = Vec::new();
        for (number, data) in bytes.chunks(CONTENT_MESSAGE).enumerate() {
            messages.push(WriteContentRequest {
                action: WriteAction::Write.into(),
                r#ref: format!("upload-{}", layer.blob.digest),
                total,
                expected: layer.blob.digest.clone(),
                offset: signed((number * CONTENT_MESSAGE) as u64)?,
                data: data.to_vec().into(),
                labels: Labels::new(),
            });
        }
        if let Some(last) = messages.last_mut() {
            last.action = WriteAction::Commit.into();
        }
        let request = self.request(tokio_stream::iter(messages))?;
        let written: Answer<()> = self.connection.wait_for(async {
            let mut answers = ContentClient::new(self.channel()).write(request).await?.into_inner();
            while answers.message().await?.is_some() {}
            Ok(())
        });
        match written {
            Err(status) if status.code() == Code::AlreadyExists => Ok(()),
            written => written,
        }
    }

    /// Makes a lease.
    ///
    /// # Errors
    /// containerd's refusal.
    pub fn create_lease(&self, lease: &str) -> Answer<()> {
        let request = self.request(CreateRequest { id: lease.to_owned(), labels: Labels::new() })?;
        self.connection.wait_for(async { LeasesClient::new(self.channel()).create(request).await }).map(drop)
    }

    /// Deletes a lease and waits until garbage was collected.
    ///
    /// # Errors
    /// containerd's refusal.
    pub fn delete_lease(&self, lease: &str) -> Answer<()> {
        let request = self.request(DeleteRequest { id: lease.to_owned(), sync: true })?;
        self.connection.wait_for(async { LeasesClient::new(self.channel()).delete(request).await }).map(drop)
    }

    /// Has containerd collect garbage and waits for it.
    ///
    /// # Errors
    /// containerd's refusal.
    pub fn collect_garbage(&self) -> Answer<()> {
        const LEASE: &str = "collect-garbage";
        self.create_lease(LEASE)?;
        self.delete_lease(LEASE)
    }

    fn snapshots(&self) -> SnapshotsClient<Channel> {
        SnapshotsClient::new(self.channel())
    }

    fn channel(&self) -> Channel {
        self.connection.channel()
    }

    fn request<T>(&self, message: T) -> Answer<Request<T>> {
        let request = self.connection.request(message, self.lease.as_deref());
        request.map_err(|error| Status::invalid_argument(error.to_string()))
    }
}

fn signed(size: u64) -> Answer<i64> {
    i64::try_from(size).map_err(|_| Status::invalid_argument(format!("{size} bytes are too many for a blob")))
}
