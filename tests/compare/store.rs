//! A content store with leases, as containerd's answers on the wire, which can be told to fail.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use nexuserofs::image::digest::Digest;
use nexuserofs_proto::containerd::services::content::v1 as content;
use nexuserofs_proto::containerd::services::content::v1::content_server::{Content, ContentServer};
use nexuserofs_proto::containerd::services::leases::v1 as leases;
use nexuserofs_proto::containerd::services::leases::v1::leases_server::{Leases, LeasesServer};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};

use crate::NAMESPACE;

/// What goes wrong with uploads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fault {
    #[default]
    None,
    /// A write fails once this many bytes are there.
    BreaksAfter(usize),
    /// Nothing is answered any more once this many bytes are there.
    StallsAfter(usize),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Blob {
    pub(crate) bytes: Vec<u8>,
    pub(crate) labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Lease {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) blobs: BTreeSet<String>,
}

/// What the store has. Only [`NAMESPACE`] sees it.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) blobs: BTreeMap<String, Blob>,
    pub(crate) uploads: BTreeMap<String, Vec<u8>>,
    pub(crate) leases: BTreeMap<String, Lease>,
    pub(crate) fault: Fault,
}

pub(crate) struct Store {
    pub(crate) address: PathBuf,
    pub(crate) state: Mutex<State>,
}

impl Store {
    pub(crate) fn start(root: &Path) -> Arc<Self> {
        let address = root.join("containerd.sock");
        let store = Arc::new(Self { address, state: Mutex::default() });
        let listener = UnixListenerStream::new(UnixListener::bind(&store.address).unwrap());
        let server = tonic::transport::Server::builder()
            .add_service(ContentServer::new(Peer(Arc::clone(&store))))
            .add_service(LeasesServer::new(Peer(Arc::clone(&store))));
        tokio::spawn(server.serve_with_incoming(listener));
        store
    }

    pub(crate) fn blob(&self, digest: &Digest) -> Blob {
        self.state.lock().unwrap().blobs[&digest.to_string()].clone()
    }
}

struct Peer(Arc<Store>);

/// The lease of a request, which has to be in the namespace. A store without leases collects at once.
fn lease_of<T>(request: &Request<T>) -> Result<String, Status> {
    let header = |name: &str| Some(request.metadata().get(name)?.to_str().ok()?.to_owned());
    if header("containerd-namespace").as_deref() != Some(NAMESPACE) {
        return Err(Status::failed_precondition("another namespace"));
    }
    header("containerd-lease").ok_or_else(|| Status::failed_precondition("no lease"))
}

impl Store {
    /// Answers one message of an upload; None if it is to stay without an answer.
    fn answer(
        &self,
        reference: &str,
        lease: &str,
        message: &content::WriteContentRequest,
    ) -> Result<Option<content::WriteContentResponse>, Status> {
        let mut state = self.state.lock().unwrap();
        let state = &mut *state;
        let upload = state.uploads.entry(reference.to_owned()).or_default();
        match message.action() {
            content::WriteAction::Stat => {}
            _ if message.offset == 0 => upload.clear(),
            _ if message.offset as usize != upload.len() => {
                return Err(Status::out_of_range("another offset"));
            }
            _ => {}
        }
        upload.extend_from_slice(&message.data);
        assert!(message.data.len() <= 1 << 20, "a message of {} bytes", message.data.len());
        match state.fault {
            Fault::BreaksAfter(bytes) if upload.len() >= bytes => {
                return Err(Status::resource_exhausted("the disk is full"));
            }
            Fault::StallsAfter(bytes) if upload.len() >= bytes => return Ok(None),
            _ => {}
        }
        let offset = upload.len() as i64;
        let digest = Digest::of(upload).to_string();
        if message.action() == content::WriteAction::Commit {
            let bytes = state.uploads.remove(reference).unwrap();
            if (message.expected.as_str(), message.total) != (digest.as_str(), offset) {
                return Err(Status::failed_precondition("another digest or size"));
            }
            if state.blobs.contains_key(&digest) {
                return Err(Status::already_exists("the blob exists"));
            }
            state.blobs.insert(digest.clone(), Blob { bytes, labels: message.labels.clone() });
            let lease = state.leases.get_mut(lease).ok_or_else(|| Status::not_found("no such lease"))?;
            lease.blobs.insert(digest.clone());
        }
        let action = message.action;
        Ok(Some(content::WriteContentResponse { action, offset, digest, ..Default::default() }))
    }
}

fn not_needed<T>() -> Result<T, Status> {
    Err(Status::unimplemented("the differ does not call this"))
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Content for Peer {
    type ListStream = ReceiverStream<Result<content::ListContentResponse, Status>>;
    type ReadStream = ReceiverStream<Result<content::ReadContentResponse, Status>>;
    type WriteStream = ReceiverStream<Result<content::WriteContentResponse, Status>>;

    async fn write(
        &self,
        request: Request<Streaming<content::WriteContentRequest>>,
    ) -> Reply<Self::WriteStream> {
        let lease = lease_of(&request)?;
        let mut messages = request.into_inner();
        let (sender, receiver) = mpsc::channel(1);
        let store = Arc::clone(&self.0);
        tokio::spawn(async move {
            let mut reference = String::new();
            while let Ok(Some(message)) = messages.message().await {
                if !message.r#ref.is_empty() {
                    reference.clone_from(&message.r#ref);
                }
                assert!(!reference.is_empty(), "the first message names the upload");
                match store.answer(&reference, &lease, &message) {
                    Ok(None) => return sender.closed().await,
                    Ok(Some(answer)) => {
                        let _ = sender.send(Ok(answer)).await;
                    }
                    Err(status) => {
                        let _ = sender.send(Err(status)).await;
                        return;
                    }
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn abort(&self, request: Request<content::AbortRequest>) -> Reply<()> {
        lease_of(&request)?;
        self.0.state.lock().unwrap().uploads.remove(&request.get_ref().r#ref);
        Ok(Response::new(()))
    }

    async fn info(&self, request: Request<content::InfoRequest>) -> Reply<content::InfoResponse> {
        lease_of(&request)?;
        let state = self.0.state.lock().unwrap();
        let digest = &request.get_ref().digest;
        let blob = state.blobs.get(digest).ok_or_else(|| Status::not_found("no such blob"))?;
        let info = content::Info {
            digest: digest.clone(),
            size: blob.bytes.len() as i64,
            labels: blob.labels.clone(),
            ..Default::default()
        };
        Ok(Response::new(content::InfoResponse { info: Some(info) }))
    }

    async fn update(&self, request: Request<content::UpdateRequest>) -> Reply<content::UpdateResponse> {
        lease_of(&request)?;
        let content::UpdateRequest { info, update_mask } = request.into_inner();
        let info = info.unwrap();
        let mut state = self.0.state.lock().unwrap();
        let blob = state.blobs.get_mut(&info.digest).ok_or_else(|| Status::not_found("no such blob"))?;
        for path in update_mask.unwrap().paths {
            let key = path.strip_prefix("labels.").unwrap();
            blob.labels.insert(key.to_owned(), info.labels[key].clone());
        }
        Ok(Response::new(content::UpdateResponse { info: Some(info) }))
    }

    async fn read(&self, _: Request<content::ReadContentRequest>) -> Reply<Self::ReadStream> {
        not_needed()
    }

    async fn list(&self, _: Request<content::ListContentRequest>) -> Reply<Self::ListStream> {
        not_needed()
    }

    async fn delete(&self, _: Request<content::DeleteContentRequest>) -> Reply<()> {
        not_needed()
    }

    async fn status(&self, _: Request<content::StatusRequest>) -> Reply<content::StatusResponse> {
        not_needed()
    }

    async fn list_statuses(
        &self,
        _: Request<content::ListStatusesRequest>,
    ) -> Reply<content::ListStatusesResponse> {
        not_needed()
    }
}

#[tonic::async_trait]
impl Leases for Peer {
    async fn create(&self, request: Request<leases::CreateRequest>) -> Reply<leases::CreateResponse> {
        let mut state = self.0.state.lock().unwrap();
        let id = format!("lease-{}", state.leases.len());
        let labels = request.into_inner().labels;
        state.leases.insert(id.clone(), Lease { labels: labels.clone(), ..Lease::default() });
        let lease = leases::Lease { id, labels, ..Default::default() };
        Ok(Response::new(leases::CreateResponse { lease: Some(lease) }))
    }

    async fn add_resource(&self, request: Request<leases::AddResourceRequest>) -> Reply<()> {
        let leases::AddResourceRequest { id, resource } = request.into_inner();
        let resource = resource.filter(|resource| resource.r#type == "content").unwrap();
        let mut state = self.0.state.lock().unwrap();
        let lease = state.leases.get_mut(&id).ok_or_else(|| Status::not_found("no such lease"))?;
        lease.blobs.insert(resource.id);
        Ok(Response::new(()))
    }

    async fn delete(&self, _: Request<leases::DeleteRequest>) -> Reply<()> {
        not_needed()
    }

    async fn list(&self, _: Request<leases::ListRequest>) -> Reply<leases::ListResponse> {
        not_needed()
    }

    async fn delete_resource(&self, _: Request<leases::DeleteResourceRequest>) -> Reply<()> {
        not_needed()
    }

    async fn list_resources(
        &self,
        _: Request<leases::ListResourcesRequest>,
    ) -> Reply<leases::ListResourcesResponse> {
        not_needed()
    }
}
