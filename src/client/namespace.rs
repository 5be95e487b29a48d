//! A namespace of containerd: images, blobs and leases are each of one.

use std::path::Path;
use std::sync::Arc;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::{Connection, Error};

/// What is asked in one namespace of a containerd, and for one lease, if there is one.
#[derive(Clone, Debug)]
pub struct Namespace {
    connection: Arc<Connection>,
    name: String,
    lease: Option<String>,
}

impl Namespace {
    /// The namespace called `name` of the containerd that listens at `address`.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub fn open(address: &Path, name: &str) -> Result<Self, Error> {
        Ok(Self { connection: Arc::new(Connection::open(address)?), name: name.to_owned(), lease: None })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same, so that what is made belongs to this lease.
    pub(super) fn under(&self, lease: String) -> Self {
        Self { lease: Some(lease), ..self.clone() }
    }

    /// A request that says for whom it is.
    pub(super) fn request<T>(&self, message: T) -> Result<Request<T>, Error> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("containerd-namespace", header(&self.name)?);
        if let Some(lease) = &self.lease {
            request.metadata_mut().insert("containerd-lease", header(lease)?);
        }
        Ok(request)
    }

    /// The lease that what is made belongs to.
    pub(super) fn lease_id(&self) -> Option<&str> {
        self.lease.as_deref()
    }

    /// The error for a call that was refused.
    pub(super) fn refused(&self, operation: &'static str, status: Status) -> Error {
        self.connection.refused(operation, status)
    }

    /// Waits for a part of a stream.
    pub(super) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.connection.block_on(work)
    }

    pub(super) fn channel(&self) -> Channel {
        self.connection.channel()
    }

    /// As [`Connection::wait`].
    pub(super) fn wait<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Error> {
        self.connection.wait(operation, call)
    }
}

fn header(text: &str) -> Result<MetadataValue<Ascii>, Error> {
    text.parse().map_err(|_| Error::Header(text.to_owned()))
}
