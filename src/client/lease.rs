//! A lease: what is made under it is kept until something refers to it.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use nexuserofs_proto::containerd::services::leases::v1::leases_client::LeasesClient;
use nexuserofs_proto::containerd::services::leases::v1::{
    AddResourceRequest, CreateRequest, DeleteRequest, Resource,
};
use prost_types::Timestamp;

use super::{Error, Namespace};

/// When a lease ends by itself, should nobody end it.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Label of a lease: when it ends by itself (`core/leases` in containerd).
const EXPIRE_LABEL: &str = "containerd.io/gc.expire";

/// A lease, which ends when this is dropped.
#[derive(Debug)]
pub struct Lease {
    id: String,
    namespace: Namespace,
}

impl Namespace {
    /// Makes a lease.
    ///
    /// # Errors
    /// [`Error::Call`] if containerd refuses.
    pub fn lease(&self) -> Result<Lease, Error> {
        let expires = Timestamp::from(SystemTime::now() + LIFETIME).to_string();
        let labels = BTreeMap::from([(EXPIRE_LABEL.to_owned(), expires)]);
        let request = self.request(CreateRequest { id: String::new(), labels })?;
        let mut client = LeasesClient::new(self.channel());
        let id = self.wait("make a lease", client.create(request))?.lease.unwrap_or_default().id;
        Ok(Lease { namespace: self.under(id.clone()), id })
    }
}

impl Namespace {
    /// Puts a blob that was there before under the lease, as those are that are added.
    pub(super) fn keep(&self, digest: &str) -> Result<(), Error> {
        let Some(lease) = self.lease_id() else { return Ok(()) };
        let resource = Some(Resource { id: digest.to_owned(), r#type: "content".to_owned() });
        let request = self.request(AddResourceRequest { id: lease.to_owned(), resource })?;
        let mut client = LeasesClient::new(self.channel());
        self.wait("keep a blob by a lease", client.add_resource(request))
    }
}

impl Lease {
    /// The namespace in which it keeps what is made.
    #[must_use]
    pub const fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut client = LeasesClient::new(self.namespace.channel());
        let request = self.namespace.request(DeleteRequest { id: self.id.clone(), sync: false });
        // It ends by itself otherwise.
        let _ = request.map(|request| self.namespace.wait("end a lease", client.delete(request)));
    }
}
