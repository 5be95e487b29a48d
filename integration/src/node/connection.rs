//! gRPC to a containerd or to our daemon, in one namespace.

use std::path::Path;

use anyhow::{Context, Result};
use nexuserofs_proto::containerd::services::snapshots::v1::MountsRequest;
use nexuserofs_proto::containerd::services::snapshots::v1::snapshots_client::SnapshotsClient;
use nexuserofs_proto::containerd::types::Mount;
use tokio::runtime::Runtime;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

/// A connection, with threads of its own that wait for the answers.
#[derive(Debug)]
pub struct Connection {
    runtime: Runtime,
    caller: Caller,
}

/// What a call needs, for tasks of their own.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The connection proper.
    pub channel: Channel,
    namespace: String,
}

impl Connection {
    /// Connects to the socket of containerd or of our daemon.
    ///
    /// # Errors
    /// The socket does not answer.
    pub fn open(socket: &Path, namespace: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))?;
        let channel = runtime
            .block_on(endpoint.connect())
            .with_context(|| format!("connect to {}", socket.display()))?;
        Ok(Self { runtime, caller: Caller { channel, namespace: namespace.to_owned() } })
    }

    /// What a call needs.
    #[must_use]
    pub fn caller(&self) -> Caller {
        self.caller.clone()
    }

    /// The connection proper, for a client of one service.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.caller.channel.clone()
    }

    /// A message with containerd's headers for namespace and lease.
    ///
    /// # Errors
    /// A name cannot stand in a header.
    pub fn request<T>(&self, message: T, lease: Option<&str>) -> Result<Request<T>> {
        self.caller.request(message, lease)
    }

    /// Waits for calls to be answered.
    pub fn wait_for<T>(&self, calls: impl Future<Output = T>) -> T {
        self.runtime.block_on(calls)
    }

    /// The mount list of a snapshot, as its snapshotter gives it.
    ///
    /// # Errors
    /// The call fails.
    pub fn mounts(&self, snapshotter: &str, key: &str) -> Result<Vec<Mount>> {
        let request = MountsRequest { snapshotter: snapshotter.to_owned(), key: key.to_owned() };
        let request = self.caller.request(request, None)?;
        let answer =
            self.wait_for(async { SnapshotsClient::new(self.caller.channel.clone()).mounts(request).await });
        Ok(answer.with_context(|| format!("Mounts {key}"))?.into_inner().mounts)
    }
}

impl Caller {
    /// A message with containerd's headers for namespace and lease.
    ///
    /// # Errors
    /// A name cannot stand in a header.
    pub fn request<T>(&self, message: T, lease: Option<&str>) -> Result<Request<T>> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("containerd-namespace", self.namespace.parse()?);
        if let Some(lease) = lease {
            request.metadata_mut().insert("containerd-lease", lease.parse()?);
        }
        Ok(request)
    }
}
