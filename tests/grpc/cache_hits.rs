//! Prepare answered from a trusted layer cache, as clients of two releases of containerd ask for it. The
//! client here makes the calls of containerd's unpacker; containerd 2.4 itself is not on the test machines,
//! so its side of the protocol is what its source says (`core/unpack/unpacker.go`).

use nexuserofs::image::digest::Digest;
use nexuserofs::layer::cache::LayerCache;
use nexuserofs::layer::{HashTree, LayerRecord, build};
use nexuserofs::service::cache_hits::CacheHits;
use nexuserofs_proto::containerd::services::snapshots::v1::Kind;
use nexuserofs_proto::containerd::services::version::v1::VersionResponse;
use nexuserofs_proto::containerd::services::version::v1::version_server::{Version, VersionServer};
use nexuserofs_proto::containerd::types::Mount;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Code, Request, Response, Status};

use crate::server::{CONTAINERD, EXTRACTION, Server, refusal};

const DIFF_ID: &str = "containerd.io/snapshot/diff-id";
const PARENT_CHAIN: &str = "containerd.io/snapshot/parent-chain-id";

/// Tells a version, as containerd does.
struct Release(&'static str);

#[tonic::async_trait]
impl Version for Release {
    async fn version(&self, _: Request<()>) -> Result<Response<VersionResponse>, Status> {
        Ok(Response::new(VersionResponse { version: self.0.to_owned(), revision: String::new() }))
    }
}

/// An empty tar with a comment, so that there are several.
fn tar(name: &str) -> Vec<u8> {
    let mut tar = vec![0; 10_240];
    tar[1024..1024 + name.len()].copy_from_slice(name.as_bytes());
    tar
}

fn diff_id(name: &str) -> String {
    Digest::of(&tar(name)).to_string()
}

fn put(cache: &LayerCache, name: &str) {
    let tar = tar(name);
    let diff_id = Digest::of(&tar);
    let slot = cache.slot().unwrap();
    let built =
        build::read(&mut tar.as_slice(), slot.path(), HashTree::Without).unwrap().seal(&diff_id).unwrap();
    let record = LayerRecord::from_tar(diff_id, 10_240, built.image_bytes, built.root, diff_id);
    slot.publish(diff_id, &record).unwrap();
}

/// A server with the layers `lower` and `upper` in its cache, for a containerd of this release.
async fn server(release: &'static str) -> Server {
    Server::start_with(|directory| {
        let cache = LayerCache::new(directory.join("cache"));
        put(&cache, "lower");
        put(&cache, "upper");
        let containerd = directory.join(CONTAINERD);
        let listener = UnixListenerStream::new(UnixListener::bind(&containerd).unwrap());
        let version = tonic::transport::Server::builder().add_service(VersionServer::new(Release(release)));
        tokio::spawn(version.serve_with_incoming(listener));
        Some(CacheHits::new([cache], &containerd).unwrap())
    })
    .await
}

/// What the unpacker of 2.4 takes for a layer that is here (`Mount.ReadOnly` of the last mount).
fn is_staged(mounts: &[Mount]) -> bool {
    mounts.last().is_some_and(|mount| mount.r#type == "erofs")
}

#[tokio::test]
async fn as_containerd_2_4_unpacks_a_layer_of_the_cache_is_staged_and_committed() {
    let mut server = server("v2.4.0").await;
    let (lower, upper) = (diff_id("lower"), diff_id("upper"));
    // Several at once: the parent comes with the commit.
    let mounts =
        server.prepare_labelled("k/1", "", &[(EXTRACTION, &lower), (DIFF_ID, &lower)]).await.unwrap();
    assert!(is_staged(&mounts), "{mounts:?}");
    let labels = [(EXTRACTION, "chain"), (DIFF_ID, &upper), (PARENT_CHAIN, &lower)];
    let mounts = server.prepare_labelled("k/2", "", &labels).await.unwrap();
    assert!(is_staged(&mounts), "{mounts:?}");
    server.commit("k/1", "one", "").await.unwrap();
    server.commit("k/2", "two", "one").await.unwrap();
    let plan = server.prepare("container", "two").await.unwrap();
    assert_eq!(plan.iter().filter(|mount| mount.r#type == "erofs").count(), 2, "{plan:?}");
}

#[tokio::test]
async fn a_layer_that_the_cache_lacks_is_prepared_as_usual() {
    let mut server = server("v2.4.0").await;
    let other = diff_id("other");
    let mounts = server.prepare_labelled("k", "", &[(EXTRACTION, &other), (DIFF_ID, &other)]).await.unwrap();
    assert!(!is_staged(&mounts), "{mounts:?}");
    let mounts = server.prepare("container", "").await.unwrap();
    assert!(!is_staged(&mounts), "a container is no extraction");
}

#[tokio::test]
async fn as_containerd_2_3_looks_for_it_a_layer_of_the_cache_exists_already() {
    let mut server = server("v2.3.4").await;
    let (lower, upper) = (diff_id("lower"), diff_id("upper"));
    let labels = [(EXTRACTION, lower.as_str()), (DIFF_ID, &lower)];
    refusal(server.prepare_labelled("k/1", "", &labels).await, Code::AlreadyExists);
    let filter = format!("labels.\"{EXTRACTION}\"==\"{lower}\",parent==\"\"");
    let found = server.list(&[&filter]).await.unwrap().1;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].kind(), Kind::Committed);

    let labels = [(EXTRACTION, "chain"), (DIFF_ID, upper.as_str()), (PARENT_CHAIN, &lower)];
    refusal(server.prepare_labelled("k/2", &found[0].name, &labels).await, Code::AlreadyExists);
    let filter = format!("labels.\"{EXTRACTION}\"==chain,parent==\"{}\"", found[0].name);
    assert_eq!(server.list(&[&filter]).await.unwrap().1.len(), 1);
}

#[tokio::test]
async fn with_several_layers_at_once_before_2_4_only_the_lowest_exists_already() {
    let mut server = server("2.3.4").await;
    let labels = [(EXTRACTION, "chain"), (DIFF_ID, &diff_id("upper")), (PARENT_CHAIN, &diff_id("lower"))];
    let mounts = server.prepare_labelled("k", "", &labels).await.unwrap();
    assert!(!is_staged(&mounts), "{mounts:?}");
}

#[tokio::test]
async fn before_2_3_the_lowest_layer_is_told_by_its_chain() {
    let mut server = server("2.1.9").await;
    let lower = diff_id("lower");
    refusal(server.prepare_labelled("k", "", &[(EXTRACTION, &lower)]).await, Code::AlreadyExists);
}

#[tokio::test]
async fn without_an_answer_to_the_version_nothing_is_told() {
    let mut server = Server::start_with(|directory| {
        let cache = LayerCache::new(directory.join("cache"));
        put(&cache, "lower");
        Some(CacheHits::new([cache], &directory.join("nobody.sock")).unwrap())
    })
    .await;
    let lower = diff_id("lower");
    let mounts = server.prepare_labelled("k", "", &[(EXTRACTION, &lower), (DIFF_ID, &lower)]).await.unwrap();
    assert!(!is_staged(&mounts), "{mounts:?}");
}
