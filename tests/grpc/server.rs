//! A served snapshotter and differ, and clients that talk to them.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use nexuserofs::diff::{ContentStore, Differ};
use nexuserofs::expose::mount::Mount;
use nexuserofs::image::digest::Digest;
use nexuserofs::layer::{LayerRecord, Protection};
use nexuserofs::service;
use nexuserofs::service::cache_hits::CacheHits;
use nexuserofs::snapshot::{Profile, SnapshotSettings, Snapshotter};
use nexuserofs_proto::containerd::services::diff::v1::diff_client::DiffClient;
use nexuserofs_proto::containerd::services::snapshots::v1::{
    CommitSnapshotRequest, Info, ListSnapshotsRequest, PrepareSnapshotRequest, RemoveSnapshotRequest,
    StatSnapshotRequest, snapshots_client::SnapshotsClient,
};
use nexuserofs_proto::containerd::types;
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

/// The profile that the tests use.
pub(crate) const PROFILE: &str = "nexuserofs";
/// The label by which containerd's unpacker marks what it extracts into.
pub(crate) const EXTRACTION: &str = "containerd.io/snapshot.ref";

/// The largest message in bytes that containerd sends or takes.
const MAX_MESSAGE_SIZE: usize = 16 << 20;

/// Name of containerd's socket in a server's directory.
pub(crate) const CONTAINERD: &str = "containerd.sock";

/// A server in this process with a root of its own, and its clients.
pub(crate) struct Server {
    pub(crate) client: SnapshotsClient<Channel>,
    pub(crate) differ: DiffClient<Channel>,
    /// Where the differ looks for containerd. Nobody listens there.
    pub(crate) containerd: PathBuf,
    snapshotter: Snapshotter,
    _root: TempDir,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| None).await
    }

    /// A server with what `hits` makes of the directory that all of it lies in.
    pub(crate) async fn start_with(hits: impl FnOnce(&Path) -> Option<CacheHits>) -> Self {
        let root = tempfile::tempdir().unwrap();
        let hits = hits(root.path());
        let profiles = BTreeMap::from([(PROFILE.to_owned(), Profile::default())]);
        let directory = root.path().join("root").to_str().unwrap().parse().unwrap();
        let settings = SnapshotSettings { root: directory, protection: Protection::default(), profiles };
        let (snapshotter, _) = Snapshotter::open(settings).unwrap();

        let containerd = root.path().join(CONTAINERD);
        let differ = Differ::new(snapshotter.clone(), ContentStore::new(&containerd).unwrap(), 2);
        let server = tonic::transport::Server::builder()
            .add_service(service::snapshots::Service::server(snapshotter.clone(), hits))
            .add_service(service::diff::Service::server(differ, "default"));

        let socket = root.path().join("socket");
        let listener = UnixListenerStream::new(UnixListener::bind(&socket).unwrap());
        tokio::spawn(server.serve_with_incoming(listener));
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let channel =
            Endpoint::from_static("http://localhost").connect_with_connector(connector).await.unwrap();
        Self {
            client: SnapshotsClient::new(channel.clone())
                .max_decoding_message_size(MAX_MESSAGE_SIZE)
                .max_encoding_message_size(MAX_MESSAGE_SIZE),
            differ: DiffClient::new(channel),
            containerd,
            snapshotter,
            _root: root,
        }
    }

    /// Prepares an active snapshot for a container.
    pub(crate) async fn prepare(&mut self, key: &str, parent: &str) -> Result<Vec<types::Mount>, Status> {
        self.prepare_labelled(key, parent, &[]).await
    }

    pub(crate) async fn prepare_labelled(
        &mut self,
        key: &str,
        parent: &str,
        pairs: &[(&str, &str)],
    ) -> Result<Vec<types::Mount>, Status> {
        let request = PrepareSnapshotRequest {
            snapshotter: PROFILE.to_owned(),
            key: key.to_owned(),
            parent: parent.to_owned(),
            labels: labels(pairs),
        };
        Ok(self.client.prepare(request).await?.into_inner().mounts)
    }

    /// Prepares a snapshot for a layer and applies one to it, of which the name is `name`.
    pub(crate) async fn extract(&mut self, key: &str, parent: &str, name: &str) {
        let mounts = self.prepare_labelled(key, parent, &[(EXTRACTION, name)]).await.unwrap();
        self.attach_layer(mounts, name);
    }

    pub(crate) async fn commit(
        &mut self,
        key: &str,
        name: &str,
        parent: &str,
    ) -> Result<Response<()>, Status> {
        let request = CommitSnapshotRequest {
            snapshotter: PROFILE.to_owned(),
            name: name.to_owned(),
            key: key.to_owned(),
            labels: labels(&[(EXTRACTION, name)]),
            parent: parent.to_owned(),
        };
        self.client.commit(request).await
    }

    /// A committed snapshot, made as containerd's unpacker does.
    pub(crate) async fn committed(&mut self, name: &str, parent: &str) {
        let key = format!("extract-1 {name}");
        self.extract(&key, parent, name).await;
        self.commit(&key, name, "").await.unwrap();
    }

    pub(crate) async fn remove(&mut self, key: &str) -> Result<Response<()>, Status> {
        self.client
            .remove(RemoveSnapshotRequest { snapshotter: PROFILE.to_owned(), key: key.to_owned() })
            .await
    }

    pub(crate) async fn stat(&mut self, key: &str) -> Result<Info, Status> {
        let request = StatSnapshotRequest { snapshotter: PROFILE.to_owned(), key: key.to_owned() };
        Ok(self.client.stat(request).await?.into_inner().info.unwrap())
    }

    /// The sizes of the blocks that List answers in, and all records.
    pub(crate) async fn list(&mut self, filters: &[&str]) -> Result<(Vec<usize>, Vec<Info>), Status> {
        let filters = filters.iter().map(|filter| (*filter).to_owned()).collect();
        let request = ListSnapshotsRequest { snapshotter: PROFILE.to_owned(), filters };
        let mut stream = self.client.list(request).await?.into_inner();
        let (mut sizes, mut infos) = (Vec::new(), Vec::new());
        while let Some(block) = stream.message().await? {
            sizes.push(block.info.len());
            infos.extend(block.info);
        }
        Ok((sizes, infos))
    }

    /// Does what the differ does. What is in the layer plays no part in these tests.
    pub(crate) fn attach_layer(&self, mounts: Vec<types::Mount>, name: &str) {
        let plan: Vec<Mount> = mounts
            .into_iter()
            .map(|mount| Mount {
                fstype: mount.r#type,
                source: mount.source,
                target: mount.target,
                options: mount.options,
            })
            .collect();
        let claim = self.snapshotter.claim(&plan).unwrap().expect("the mounts are ours");
        let staging = self.snapshotter.staging().unwrap();
        std::fs::write(staging.layer_path(), [0x5a; 8192]).unwrap();
        let digest = Digest::of(name.as_bytes());
        let record = LayerRecord::from_tar(digest, 10_240, 8192, None, digest);
        self.snapshotter.attach_built(&claim, staging, record).unwrap();
    }
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// The text of a refusal, which must have this code.
#[track_caller]
pub(crate) fn refusal<T: Debug>(result: Result<T, Status>, code: Code) -> String {
    let status = result.expect_err("a refusal");
    assert_eq!(status.code(), code, "{status:?}");
    assert!(!status.message().is_empty());
    status.message().to_owned()
}
