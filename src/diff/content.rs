//! Layer blobs in containerd's content store.
//!
//! Where containerd keeps its blobs in files that we can open, a blob is read straight from its
//! file: over the Content service every byte crosses the socket twice. Whether the blob may be read
//! is asked of containerd either way, in the namespace of the request.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nexuserofs_proto::containerd::services::content::v1::content_client::ContentClient;
use nexuserofs_proto::containerd::services::content::v1::{InfoRequest, ReadContentRequest};
use nexuserofs_proto::containerd::services::introspection::v1::PluginsRequest;
use nexuserofs_proto::containerd::services::introspection::v1::introspection_client::IntrospectionClient;
use rustix::fs::{Advice, fadvise};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tonic::codegen::Bytes;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::error::{Classify, Kind, io_kind};
use crate::image::digest::Digest;

/// Largest message of containerd's content service: 1 MiB of data and its envelope.
const MAX_MESSAGE: usize = 16 << 20;

/// Messages of a blob stream that may wait for the unpacker.
const STREAM_DEPTH: usize = 4;

/// The content store of one containerd.
#[derive(Clone, Debug)]
pub struct ContentStore {
    address: Arc<Path>,
    channel: Channel,
}

/// For whom something is done in the content store.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// The namespace.
    pub(super) namespace: String,
    /// The lease that keeps what is made.
    pub(super) lease: Option<String>,
}

/// An open blob.
pub(super) struct Blob {
    /// Its bytes.
    pub(super) bytes: Box<dyn Read + Send>,
    /// How they are read, for the log.
    pub(super) route: &'static str,
    /// Ends a stream that a reader may be waiting for.
    pub(super) stream: Option<AbortHandle>,
}

/// Why a blob cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not one that can be dialled.
    #[error("cannot use {address} as containerd's address")]
    Address {
        /// The address as configured.
        address: PathBuf,
        /// What is wrong with it.
        source: tonic::transport::Error,
    },
    /// containerd does not answer.
    #[error("cannot reach containerd at {address} ({detail}): check that it runs, and --containerd-address")]
    Unreachable {
        /// The address as configured.
        address: PathBuf,
        /// What the connection said.
        detail: String,
    },
    /// containerd refused.
    #[error("containerd cannot give blob {digest} in namespace {namespace:?}: {detail}")]
    Refused {
        /// The blob.
        digest: Digest,
        /// The namespace that was asked.
        namespace: String,
        /// The class of the refusal.
        kind: Kind,
        /// containerd's words.
        detail: String,
    },
    /// containerd refused something else.
    #[error("containerd refuses to {operation} in namespace {namespace:?}: {detail}")]
    Call {
        /// What was asked for.
        operation: &'static str,
        /// The namespace of the request.
        namespace: String,
        /// The class of the refusal.
        kind: Kind,
        /// containerd's words.
        detail: String,
    },
    /// A namespace or a lease that cannot be sent.
    #[error("{0:?} has characters that a request header cannot carry")]
    Header(String),
    /// A blob's file cannot be opened or read.
    #[error("cannot {operation} {path}")]
    File {
        /// What failed.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Address { .. } | Self::Header(_) => Kind::InvalidArgument,
            Self::Unreachable { .. } => Kind::Unavailable,
            Self::Refused { kind, .. } | Self::Call { kind, .. } => *kind,
            Self::File { source, .. } => io_kind(source),
        }
    }
}

impl ContentStore {
    /// The content store of the containerd that listens at `address`. Dials on first use, so that
    /// the daemon starts before containerd does.
    ///
    /// # Errors
    /// [`Error::Address`] where `address` cannot be written as a URI.
    pub fn new(address: &Path) -> Result<Self, Error> {
        let endpoint = Endpoint::from_shared(format!("unix://{}", address.display()))
            .map_err(|source| Error::Address { address: address.to_owned(), source })?;
        Ok(Self { address: address.into(), channel: endpoint.connect_lazy() })
    }

    /// Opens blob `digest` of `size` bytes, which `namespace` can see.
    pub(super) async fn open(&self, namespace: &str, digest: &Digest, size: u64) -> Result<Blob, Error> {
        if let Some(directory) = self.directory().await
            && let Some(file) = open_file(&directory, digest, size)?
        {
            return Ok(Blob { bytes: Box::new(file), route: "file", stream: None });
        }
        let (bytes, stream) = self.stream(namespace, digest).await?;
        Ok(Blob { bytes: Box::new(bytes), route: "stream", stream: Some(stream) })
    }

    /// The size in bytes of blob `digest`, if `namespace` can see it.
    pub(super) async fn size(&self, namespace: &str, digest: &Digest) -> Result<u64, Error> {
        let request = scoped(InfoRequest { digest: digest.to_string() }, namespace)?;
        let response = self.content().info(request).await;
        let info = response.map_err(|status| self.refusal(&status, namespace, digest))?.into_inner().info;
        let size = info.and_then(|info| u64::try_from(info.size).ok());
        size.ok_or_else(|| self.refusal(&Status::internal("it tells no size"), namespace, digest))
    }

    /// The directory of containerd's own content store, or `None` where blobs live elsewhere. Asked
    /// each time, as containerd may have been restarted with another one.
    async fn directory(&self) -> Option<PathBuf> {
        let filter = "type==io.containerd.content.v1,id==content".to_owned();
        let request = PluginsRequest { filters: vec![filter] };
        match IntrospectionClient::new(self.channel.clone()).plugins(request).await {
            Ok(reply) => {
                let mut plugins = reply.into_inner().plugins.into_iter();
                plugins.find_map(|mut plugin| plugin.exports.remove("root")).map(PathBuf::from)
            }
            Err(status) => {
                tracing::warn!(%status, "cannot ask containerd where its blobs are: reading them over its socket");
                None
            }
        }
    }

    async fn stream(&self, namespace: &str, digest: &Digest) -> Result<(BlobStream, AbortHandle), Error> {
        let request = ReadContentRequest { digest: digest.to_string(), offset: 0, size: 0 };
        let response = self.content().read(scoped(request, namespace)?).await;
        let mut incoming = response.map_err(|status| self.refusal(&status, namespace, digest))?.into_inner();
        let (sender, messages) = mpsc::channel(STREAM_DEPTH);
        let task = tokio::spawn(async move {
            while let Some(message) = incoming.message().await.transpose() {
                let failed = message.is_err();
                if sender.send(message.map(|message| message.data)).await.is_err() || failed {
                    break;
                }
            }
        });
        Ok((BlobStream { messages, current: io::Cursor::default() }, task.abort_handle()))
    }

    /// The Content service.
    pub(super) fn content(&self) -> ContentClient<Channel> {
        ContentClient::new(self.channel()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// The connection, for other services of the same containerd.
    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// The error for a call that was refused.
    pub(super) fn refused(&self, operation: &'static str, caller: &Caller, status: &Status) -> Error {
        self.unreachable(status).unwrap_or_else(|| Error::Call {
            operation,
            namespace: caller.namespace.clone(),
            kind: kind_of(status.code()),
            detail: status.message().to_owned(),
        })
    }

    fn refusal(&self, status: &Status, namespace: &str, digest: &Digest) -> Error {
        self.unreachable(status).unwrap_or_else(|| Error::Refused {
            digest: *digest,
            namespace: namespace.to_owned(),
            kind: kind_of(status.code()),
            detail: status.message().to_owned(),
        })
    }

    fn unreachable(&self, status: &Status) -> Option<Error> {
        let (address, detail) = (self.address.to_path_buf(), status.message().to_owned());
        (status.code() == Code::Unavailable).then_some(Error::Unreachable { address, detail })
    }
}

/// The class of a refusal.
fn kind_of(code: Code) -> Kind {
    match code {
        Code::Unavailable | Code::DeadlineExceeded => Kind::Unavailable,
        Code::NotFound => Kind::NotFound,
        Code::InvalidArgument => Kind::InvalidArgument,
        Code::FailedPrecondition => Kind::FailedPrecondition,
        Code::PermissionDenied => Kind::PermissionDenied,
        Code::Cancelled => Kind::Cancelled,
        Code::ResourceExhausted => Kind::ResourceExhausted,
        _ => Kind::Internal,
    }
}

impl Caller {
    /// A request that says for whom it is.
    pub(super) fn request<T>(&self, message: T) -> Result<Request<T>, Error> {
        let mut request = scoped(message, &self.namespace)?;
        if let Some(lease) = &self.lease {
            request.metadata_mut().insert("containerd-lease", header(lease)?);
        }
        Ok(request)
    }
}

fn scoped<T>(message: T, namespace: &str) -> Result<Request<T>, Error> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("containerd-namespace", header(namespace)?);
    Ok(request)
}

fn header(text: &str) -> Result<MetadataValue<Ascii>, Error> {
    text.parse().map_err(|_| Error::Header(text.to_owned()))
}

/// Opens the file of a blob; `None` where there is none of the right size, as when the content
/// plugin is remote or containerd runs in another mount namespace.
fn open_file(directory: &Path, digest: &Digest, size: u64) -> Result<Option<File>, Error> {
    let path = directory.join("blobs/sha256").join(digest.hex());
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            return Ok(None);
        }
        Err(source) => return Err(Error::File { operation: "open", path, source }),
    };
    let metadata = file.metadata().map_err(|source| Error::File { operation: "stat", path, source })?;
    // Advice only: a file system that takes none is read all the same.
    let _ = fadvise(&file, 0, None, Advice::Sequential);
    Ok((metadata.is_file() && metadata.len() == size).then_some(file))
}

/// A blob that arrives over the Content service, read on a thread that may block.
struct BlobStream {
    messages: mpsc::Receiver<Result<Bytes, Status>>,
    current: io::Cursor<Bytes>,
}

impl Read for BlobStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.current.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            match self.messages.blocking_recv() {
                Some(Ok(bytes)) => self.current = io::Cursor::new(bytes),
                Some(Err(status)) => return Err(io::Error::other(status)),
                None => return Ok(0),
            }
        }
    }
}
