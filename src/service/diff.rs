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
    /// stops.
    async fn apply(&self, request: Request<ApplyRequest>) -> Result<Response<ApplyResponse>, Status> {
        let scope = Scope::of(request.metadata()).map_err(Failure::from)?;
        let request = request.into_inner();
        let span = trace::span(&scope, &request);
        let namespace = scope.namespace.unwrap_or_else(|| self.default_namespace.to_string());
        let differ = self.differ.clone();
        let work = async move {
            let applied = differ.apply(apply_from_wire(namespace, request)?).await?;
            Ok(Response::new(ApplyResponse { applied: Some(convert::applied_to_wire(applied)) }))
        };
        trace::observe(span, ApplyRequest::EFFECT, task::cancellable(work)).await
    }

    async fn diff(&self, request: Request<DiffRequest>) -> Result<Response<DiffResponse>, Status> {
        let scope = Scope::of(request.metadata()).map_err(Failure::from)?;
        let span = trace::span(&scope, request.get_ref());
        trace::observe(span, DiffRequest::EFFECT, async { Err(comparison_is_missing()) }).await
    }
}

/// Whether the data is synced does not depend on `sync_fs`: a layer is always on disk before the answer.
/// `payloads` are for stream processors, which run in containerd and not here.
fn apply_from_wire(namespace: String, request: ApplyRequest) -> Result<diff::ApplyRequest, Failure> {
    let ApplyRequest { diff, mounts, payloads: _, sync_fs: _ } = request;
    let descriptor = diff.ok_or(convert::Error::Missing { field: "diff" })?;
    Ok(diff::ApplyRequest {
        namespace,
        descriptor: convert::descriptor_from_wire(descriptor)?,
        mounts: convert::mounts_from_wire(mounts),
    })
}

fn comparison_is_missing() -> Status {
    Status::unimplemented(
        "this differ only applies layers and does not compare snapshots; name another differ after it, such as \"walking\"",
    )
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
