//! `containerd.services.snapshots.v1.Snapshots` on top of [`Snapshotter`].
//!
//! Every request names a snapshotter: the name of the proxy plugin in containerd's configuration. For the
//! domain it is the profile, so that one socket serves several flavours.

mod traced;

use std::vec;

use nexuserofs_proto::containerd::services::snapshots::v1::{
    CleanupRequest, CommitSnapshotRequest, Info as WireInfo, ListSnapshotsRequest, ListSnapshotsResponse,
    MountsRequest, MountsResponse, PrepareSnapshotRequest, PrepareSnapshotResponse, RemoveSnapshotRequest,
    StatSnapshotRequest, StatSnapshotResponse, UpdateSnapshotRequest, UpdateSnapshotResponse, UsageRequest,
    UsageResponse, ViewSnapshotRequest, ViewSnapshotResponse,
    snapshots_server::{Snapshots, SnapshotsServer},
};
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::cache_hits::{self, CacheHits};
use super::filter::Filters;
use super::scope::Scope;
use super::status::Failure;
use super::trace::{self, Traced};
use super::{MAX_MESSAGE_SIZE, convert, task};
use crate::snapshot::{Info, Snapshotter};

/// How many records one message of List holds at most.
const LIST_BLOCK: usize = 100;
/// How many bytes of records it holds at most, unless one record alone is larger. Labels can be as large as a
/// request, and one message that is too large for the client would end every garbage collection.
const LIST_BYTES: usize = MAX_MESSAGE_SIZE / 4;

/// The gRPC service.
#[derive(Clone, Debug)]
pub struct Service {
    snapshotter: Snapshotter,
    /// Absent unless the operator trusts the layer caches.
    hits: Option<CacheHits>,
}

impl Service {
    /// A server for `snapshotter`, ready for a router. It needs no namespace: containerd's keys are
    /// unique on the whole host. With `hits`, layers that a trusted cache has are not even fetched.
    #[must_use]
    pub fn server(snapshotter: Snapshotter, hits: Option<CacheHits>) -> SnapshotsServer<Self> {
        SnapshotsServer::new(Self { snapshotter, hits })
            .max_decoding_message_size(MAX_MESSAGE_SIZE)
            .max_encoding_message_size(MAX_MESSAGE_SIZE)
    }

    /// Runs a domain call in its own span, away from the threads that speak gRPC.
    async fn serve<R, T>(
        &self,
        request: Request<R>,
        work: impl FnOnce(&Snapshotter, R) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Status>
    where
        R: Traced + Send + 'static,
        T: Send + 'static,
    {
        let scope = Scope::of(request.metadata()).map_err(Failure::from)?;
        let request = request.into_inner();
        let span = trace::span(&scope, &request);
        let snapshotter = self.snapshotter.clone();
        trace::observe(span, R::EFFECT, task::blocking(move || work(&snapshotter, request))).await
    }
}

#[tonic::async_trait]
impl Snapshots for Service {
    async fn prepare(
        &self,
        request: Request<PrepareSnapshotRequest>,
    ) -> Result<Response<PrepareSnapshotResponse>, Status> {
        let hit = match &self.hits {
            Some(hits) => hits.find(request.get_ref(), request.extensions()).await,
            None => None,
        };
        self.serve(request, |domain, request| match hit {
            Some(hit) => hit.answer(domain, request),
            None => cache_hits::prepare(domain, request),
        })
        .await
    }

    async fn view(
        &self,
        request: Request<ViewSnapshotRequest>,
    ) -> Result<Response<ViewSnapshotResponse>, Status> {
        self.serve(request, |domain, request| {
            let ViewSnapshotRequest { snapshotter, key, parent, labels } = request;
            let mounts = domain.view(&snapshotter, &key, convert::parent(&parent), labels)?;
            Ok(Response::new(ViewSnapshotResponse { mounts: convert::mounts_to_wire(mounts) }))
        })
        .await
    }

    async fn mounts(&self, request: Request<MountsRequest>) -> Result<Response<MountsResponse>, Status> {
        self.serve(request, |domain, MountsRequest { snapshotter, key }| {
            let mounts = domain.mounts(&snapshotter, &key)?;
            Ok(Response::new(MountsResponse { mounts: convert::mounts_to_wire(mounts) }))
        })
        .await
    }

    async fn commit(&self, request: Request<CommitSnapshotRequest>) -> Result<Response<()>, Status> {
        self.serve(request, |domain, request| {
            let CommitSnapshotRequest { snapshotter, name, key, labels, parent } = request;
            domain.commit(&snapshotter, &name, &key, convert::parent(&parent), labels)?;
            Ok(Response::new(()))
        })
        .await
    }

    async fn remove(&self, request: Request<RemoveSnapshotRequest>) -> Result<Response<()>, Status> {
        self.serve(request, |domain, RemoveSnapshotRequest { snapshotter, key }| {
            domain.remove(&snapshotter, &key)?;
            Ok(Response::new(()))
        })
        .await
    }

    async fn stat(
        &self,
        request: Request<StatSnapshotRequest>,
    ) -> Result<Response<StatSnapshotResponse>, Status> {
        self.serve(request, |domain, StatSnapshotRequest { snapshotter, key }| {
            let info = domain.stat(&snapshotter, &key)?;
            Ok(Response::new(StatSnapshotResponse { info: Some(convert::info_to_wire(info)) }))
        })
        .await
    }

    async fn update(
        &self,
        request: Request<UpdateSnapshotRequest>,
    ) -> Result<Response<UpdateSnapshotResponse>, Status> {
        self.serve(request, |domain, UpdateSnapshotRequest { snapshotter, info, update_mask }| {
            let info = info.ok_or(convert::Error::Missing { field: "info" })?;
            let change = convert::label_change(info.labels, update_mask)?;
            let info = domain.update(&snapshotter, &info.name, change)?;
            Ok(Response::new(UpdateSnapshotResponse { info: Some(convert::info_to_wire(info)) }))
        })
        .await
    }

    type ListStream = tokio_stream::Iter<Blocks>;

    async fn list(
        &self,
        request: Request<ListSnapshotsRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        self.serve(request, |domain, ListSnapshotsRequest { snapshotter, filters }| {
            let filters = Filters::parse(&filters)?;
            let mut infos = domain.list(&snapshotter);
            infos.retain(|info| filters.matches(info));
            Ok(Response::new(tokio_stream::iter(Blocks::of(infos))))
        })
        .await
    }

    async fn usage(&self, request: Request<UsageRequest>) -> Result<Response<UsageResponse>, Status> {
        self.serve(request, |domain, UsageRequest { snapshotter, key }| {
            Ok(Response::new(convert::usage_to_wire(&domain.usage(&snapshotter, &key)?)))
        })
        .await
    }

    async fn cleanup(&self, request: Request<CleanupRequest>) -> Result<Response<()>, Status> {
        // What was removed waits in one place for all profiles.
        self.serve(request, |domain, _| {
            domain.cleanup()?;
            Ok(Response::new(()))
        })
        .await
    }
}

/// The answer to List: records in blocks, made as the client takes them. The records are copies, so that a
/// slow client holds nobody up.
#[derive(Debug)]
pub struct Blocks {
    rest: vec::IntoIter<Info>,
    /// The next record, if the last block had no room for it.
    left_over: Option<WireInfo>,
}

impl Blocks {
    fn of(infos: Vec<Info>) -> Self {
        Self { rest: infos.into_iter(), left_over: None }
    }

    fn next_info(&mut self) -> Option<WireInfo> {
        self.left_over.take().or_else(|| self.rest.next().map(convert::info_to_wire))
    }
}

impl Iterator for Blocks {
    type Item = Result<ListSnapshotsResponse, Status>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut block: Vec<WireInfo> = Vec::new();
        let mut bytes = 0;
        while block.len() < LIST_BLOCK {
            let Some(info) = self.next_info() else { break };
            bytes += info.encoded_len();
            if bytes > LIST_BYTES && !block.is_empty() {
                self.left_over = Some(info);
                break;
            }
            block.push(info);
        }
        (!block.is_empty()).then_some(Ok(ListSnapshotsResponse { info: block }))
    }
}
