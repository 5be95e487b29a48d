//! The lease that keeps a new blob until something refers to it.
//!
//! containerd hands the lease of its own callers on, but not that of a client to a proxy differ. Without
//! one the blob could be collected between our answer and the client's first reference to it.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use nexuserofs_proto::containerd::services::leases::v1::leases_client::LeasesClient;
use nexuserofs_proto::containerd::services::leases::v1::{AddResourceRequest, CreateRequest, Resource};
use prost_types::Timestamp;

use crate::diff::content::{Caller, ContentStore, Error};
use crate::image::digest::Digest;

/// How long a lease of our own lasts. It is not ended earlier: the client refers to the blob some time
/// after our answer.
const LIFETIME: Duration = Duration::from_secs(3600);

/// Label of a lease: when it ends by itself (`core/leases` in containerd).
const EXPIRE_LABEL: &str = "containerd.io/gc.expire";

/// The caller with the lease that it has, or with a new one.
pub(super) async fn ensure(
    content: &ContentStore,
    namespace: String,
    lease: Option<String>,
) -> Result<Caller, Error> {
    let caller = Caller { namespace, lease };
    if caller.lease.is_some() {
        return Ok(caller);
    }
    let expires = Timestamp::from(SystemTime::now() + LIFETIME).to_string();
    let labels = BTreeMap::from([(EXPIRE_LABEL.to_owned(), expires)]);
    let request = caller.request(CreateRequest { id: String::new(), labels })?;
    let reply = LeasesClient::new(content.channel()).create(request).await;
    let reply = reply.map_err(|status| content.refused("make a lease", &caller, &status))?.into_inner();
    Ok(Caller { lease: reply.lease.map(|lease| lease.id), ..caller })
}

/// Puts a blob under the caller's lease. An upload does that by itself, unless the blob is there already.
pub(super) async fn keep(content: &ContentStore, caller: &Caller, blob: &Digest) -> Result<(), Error> {
    let Some(lease) = &caller.lease else { return Ok(()) };
    let resource = Some(Resource { id: blob.to_string(), r#type: "content".to_owned() });
    let request = caller.request(AddResourceRequest { id: lease.clone(), resource })?;
    let kept = LeasesClient::new(content.channel()).add_resource(request).await;
    kept.map(drop).map_err(|status| content.refused("keep the blob by the lease", caller, &status))
}
