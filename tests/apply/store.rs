//! A content store like containerd's, which can be told to fail.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use nexuserofs::image::digest::Digest;
use nexuserofs_proto::containerd::services::content::v1 as content;
use nexuserofs_proto::containerd::services::content::v1::content_server::{Content, ContentServer};
use nexuserofs_proto::containerd::services::introspection::v1 as introspection;
use nexuserofs_proto::containerd::services::introspection::v1::introspection_server::{
    Introspection, IntrospectionServer,
};
use tokio::net::UnixListener;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status};

use crate::NAMESPACE;

/// Size of the messages that a blob is streamed in, as containerd sends them.
const MESSAGE: usize = 1 << 20;

/// What goes wrong with a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// It is not in a file, so that it has to be streamed.
    NoDirectory,
    /// The stream fails after this many bytes.
    BreaksAfter(usize),
    /// The stream goes silent after this many bytes.
    StallsAfter(usize),
    /// A byte of what is stored has changed.
    Damaged,
}

/// The store. Only [`NAMESPACE`] sees what is in it.
pub(crate) struct Store {
    pub(crate) address: PathBuf,
    directory: PathBuf,
    blobs: Mutex<HashMap<String, (Vec<u8>, Fault)>>,
    reads: AtomicUsize,
}

impl Store {
    pub(crate) async fn start(root: &Path) -> Arc<Self> {
        let (address, directory) = (root.join("containerd.sock"), root.join("content"));
        fs::create_dir_all(directory.join("blobs/sha256")).unwrap();
        let store =
            Arc::new(Self { address, directory, blobs: Mutex::default(), reads: AtomicUsize::new(0) });
        let listener = UnixListenerStream::new(UnixListener::bind(&store.address).unwrap());
        let server = tonic::transport::Server::builder()
            .add_service(ContentServer::new(Peer(Arc::clone(&store))))
            .add_service(IntrospectionServer::new(Peer(Arc::clone(&store))));
        tokio::spawn(server.serve_with_incoming(listener));
        store
    }

    /// Stores a blob, or changes what goes wrong with it.
    pub(crate) fn put(&self, blob: &[u8], fault: Fault) {
        let digest = Digest::of(blob);
        let mut stored = blob.to_vec();
        if fault == Fault::Damaged {
            let middle = stored.len() / 2;
            stored[middle] ^= 1;
        }
        let path = self.directory.join("blobs/sha256").join(digest.hex());
        if matches!(fault, Fault::None | Fault::Damaged) {
            fs::write(path, &stored).unwrap();
        } else {
            let _ = fs::remove_file(path);
        }
        self.blobs.lock().unwrap().insert(digest.to_string(), (stored, fault));
    }

    /// How many streams were opened.
    pub(crate) fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    fn find<T>(&self, request: &Request<T>, digest: &str) -> Result<(Vec<u8>, Fault), Status> {
        let namespace = request.metadata().get("containerd-namespace").map(|value| value.as_bytes());
        let found = self.blobs.lock().unwrap().get(digest).cloned();
        found
            .filter(|_| namespace == Some(NAMESPACE.as_bytes()))
            .ok_or_else(|| Status::not_found("no such blob"))
    }
}

struct Peer(Arc<Store>);

fn not_needed<T>() -> Result<T, Status> {
    Err(Status::unimplemented("the differ does not call this"))
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Content for Peer {
    type ListStream = ReceiverStream<Result<content::ListContentResponse, Status>>;
    type ReadStream = ReceiverStream<Result<content::ReadContentResponse, Status>>;
    type WriteStream = ReceiverStream<Result<content::WriteContentResponse, Status>>;

    async fn info(&self, request: Request<content::InfoRequest>) -> Reply<content::InfoResponse> {
        let digest = request.get_ref().digest.clone();
        let (blob, _) = self.0.find(&request, &digest)?;
        let size = i64::try_from(blob.len()).unwrap();
        let info = content::Info { digest, size, ..content::Info::default() };
        Ok(Response::new(content::InfoResponse { info: Some(info) }))
    }

    async fn read(&self, request: Request<content::ReadContentRequest>) -> Reply<Self::ReadStream> {
        let (blob, fault) = self.0.find(&request, &request.get_ref().digest)?;
        self.0.reads.fetch_add(1, Ordering::SeqCst);
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            let end = match fault {
                Fault::BreaksAfter(bytes) | Fault::StallsAfter(bytes) => bytes.min(blob.len()),
                _ => blob.len(),
            };
            for (number, data) in blob[..end].chunks(MESSAGE).enumerate() {
                let offset = i64::try_from(number * MESSAGE).unwrap();
                let data = tonic::codegen::Bytes::copy_from_slice(data);
                if sender.send(Ok(content::ReadContentResponse { offset, data })).await.is_err() {
                    return;
                }
            }
            match fault {
                Fault::BreaksAfter(_) => drop(sender.send(Err(Status::internal("the disk fails"))).await),
                Fault::StallsAfter(_) => sender.closed().await,
                _ => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn update(&self, _: Request<content::UpdateRequest>) -> Reply<content::UpdateResponse> {
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

    async fn write(
        &self,
        _: Request<tonic::Streaming<content::WriteContentRequest>>,
    ) -> Reply<Self::WriteStream> {
        not_needed()
    }

    async fn abort(&self, _: Request<content::AbortRequest>) -> Reply<()> {
        not_needed()
    }
}

#[tonic::async_trait]
impl Introspection for Peer {
    async fn plugins(
        &self,
        _: Request<introspection::PluginsRequest>,
    ) -> Reply<introspection::PluginsResponse> {
        let root = self.0.directory.to_str().unwrap().to_owned();
        let exports = [("root".to_owned(), root)].into();
        let plugin = introspection::Plugin { exports, ..introspection::Plugin::default() };
        Ok(Response::new(introspection::PluginsResponse { plugins: vec![plugin] }))
    }

    async fn server(&self, _: Request<()>) -> Reply<introspection::ServerResponse> {
        not_needed()
    }

    async fn plugin_info(
        &self,
        _: Request<introspection::PluginInfoRequest>,
    ) -> Reply<introspection::PluginInfoResponse> {
        not_needed()
    }
}
