//! `containerd.services.diff.v1.Diff` on top of [`Differ`].

use std::sync::Arc;

use nexuserofs_proto::containerd::services::diff::v1::{
    ApplyRequest, ApplyResponse, DiffRequest, DiffResponse,
    diff_server::{Diff, DiffServer},
};
use tonic::{Request, Response, Status};

use super::scope::Scope;
use super::status::Failure;
use super::trace::{self, Effect, Traced};
use super::{MAX_MESSAGE_SIZE, convert, task};
use crate::diff::{self, Differ};

/// The gRPC service.
#[derive(Clone, Debug)]
pub struct Service {
    differ: Differ,
    default_namespace: Arc<str>,
}

impl Service {
    /// A server for `differ`, ready for a router. Calls without a namespace header read the content of
    /// `default_namespace`.
    #[must_use]
    pub fn server(differ: Differ, default_namespace: &str) -> DiffServer<Self> {
        DiffServer::new(Self { differ, default_namespace: default_namespace.into() })
            .max_decoding_message_size(MAX_MESSAGE_SIZE)
            .max_encoding_message_size(MAX_MESSAGE_SIZE)
    }
}

#[tonic::async_trait]
impl Diff for Service {
    /// Has no deadline of its own: a layer takes as long as it takes. When the caller gives up, the work
    /// stops. Whether the data is synced does not depend on `sync_fs`: a layer is always on disk before
    /// the answer. `payloads` are for stream processors, which run in containerd and not here.
    async fn apply(&self, request: Request<ApplyRequest>) -> Result<Response<ApplyResponse>, Status> {
        let scope = Scope::of(request.metadata()).map_err(Failure::from)?;
        let request = request.into_inner();
        let span = trace::span(&scope, &request);
        let namespace = scope.namespace.unwrap_or_else(|| self.default_namespace.to_string());
        let differ = self.differ.clone();
        let work = async move {
            let mounts = convert::mounts_from_wire(request.mounts);
            // Whatever else is wrong with a layer for another snapshotter is for its own differ to say.
            differ.check_ours(&mounts)?;
            let descriptor = request.diff.ok_or(convert::Error::Missing { field: "diff" })?;
            let descriptor = convert::descriptor_from_wire(descriptor)?;
            let applied = differ.apply(diff::ApplyRequest { namespace, descriptor, mounts }).await?;
            Ok(Response::new(ApplyResponse { applied: Some(convert::applied_to_wire(applied)) }))
        };
        trace::observe(span, ApplyRequest::EFFECT, task::cancellable(work)).await
    }

    /// As [`Self::apply`], in the other direction.
    async fn diff(&self, request: Request<DiffRequest>) -> Result<Response<DiffResponse>, Status> {
        let scope = Scope::of(request.metadata()).map_err(Failure::from)?;
        let request = request.into_inner();
        let span = trace::span(&scope, &request);
        let Scope { namespace, lease } = scope;
        let namespace = namespace.unwrap_or_else(|| self.default_namespace.to_string());
        let differ = self.differ.clone();
        let work = async move {
            let compared = differ.compare(compare_from_wire(namespace, lease, request)?).await?;
            Ok(Response::new(DiffResponse { diff: Some(convert::descriptor_to_wire(compared)) }))
        };
        trace::observe(span, DiffRequest::EFFECT, task::cancellable(work)).await
    }
}

fn compare_from_wire(
    namespace: String,
    lease: Option<String>,
    request: DiffRequest,
) -> Result<diff::CompareRequest, Failure> {
    let DiffRequest { left, right, media_type, r#ref: reference, labels, source_date_epoch } = request;
    Ok(diff::CompareRequest {
        namespace,
        lease,
        left: convert::mounts_from_wire(left),
        right: convert::mounts_from_wire(right),
        media_type,
        reference,
        labels,
        source_date_epoch: source_date_epoch.map(convert::timestamp_from_wire).transpose()?,
    })
}

impl Traced for ApplyRequest {
    const METHOD: &'static str = "Apply";
    const EFFECT: Effect = Effect::Change;

    fn snapshotter(&self) -> Option<&str> {
        None
    }

    fn key(&self) -> Option<&str> {
        self.diff.as_ref().map(|descriptor| descriptor.digest.as_str())
    }
}

impl Traced for DiffRequest {
    const METHOD: &'static str = "Diff";
    const EFFECT: Effect = Effect::Change;

    fn snapshotter(&self) -> Option<&str> {
        None
    }

    fn key(&self) -> Option<&str> {
        Some(&self.r#ref)
    }
}
