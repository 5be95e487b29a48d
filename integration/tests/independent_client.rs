//! Our services as a client sees them that knows nothing of this project: the crate `containerd-client`.
//!
//! It takes the layers of an image out of a real containerd's content store and unpacks them by hand, the way
//! containerd's own unpacker does, and then asks for what containerd's garbage collection and the kubelet ask
//! for. Its messages are generated from containerd's own descriptions.

use std::collections::HashMap;
use std::future::Future;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use containerd_client::services::v1::snapshots::{
    CleanupRequest, CommitSnapshotRequest, Info, Kind, ListSnapshotsRequest, MountsRequest,
    PrepareSnapshotRequest, RemoveSnapshotRequest, StatSnapshotRequest, UpdateSnapshotRequest, UsageRequest,
    ViewSnapshotRequest,
};
use containerd_client::services::v1::{ApplyRequest, DiffRequest, GetImageRequest, ReadContentRequest};
use containerd_client::tonic::{Code, Request, Response, Status};
use containerd_client::types::{Descriptor, Mount};
use containerd_client::{Client, with_namespace};
use nexuserofs_integration::bed::{Bed, Needs, Profile};
use nexuserofs_integration::digest;
use nexuserofs_integration::harness::{self, Test};
use nexuserofs_integration::node::{DaemonOptions, Node, NodeOptions, SNAPSHOTTER};
use prost_types::FieldMask;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

const NAMESPACE: &str = "default";
/// The label by which containerd's unpacker marks what it extracts into.
const EXTRACTION: &str = "containerd.io/snapshot.ref";

const TESTS: &[Test] = &[
    Test { name: "unpacks_an_image", run: unpacks_an_image },
    Test { name: "sees_the_codes_that_containerd_expects", run: sees_the_codes },
];

fn main() -> Result<ExitCode> {
    harness::main(Needs { programs: Some(Profile::Debug), ..Needs::default() }, TESTS)
}

fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

fn start(bed: &Bed, name: &str) -> Result<Node> {
    let options = NodeOptions { daemon: Some(DaemonOptions::default()), ..NodeOptions::default() };
    Node::start(&bed.place, name, &options)
}

async fn connect(node: &mut Node) -> Result<Client> {
    Client::from_path(node.daemon()?.socket()).await.context("connect to our daemon")
}

fn unpacks_an_image(bed: &Bed) -> Result<()> {
    let mut node = start(bed, "independent-unpack")?;
    let image = node.push(&bed.images.demo)?;
    node.containerd.fetch(NAMESPACE, &image)?;
    block_on(async {
        let containerd =
            Client::from_path(node.containerd.socket()).await.context("connect to containerd")?;
        let layers = layers_of(&containerd, &image).await?;
        ensure!(layers.len() > 1, "the image has {} layers, which is not a chain", layers.len());
        let ours = connect(&mut node).await?;
        let mut chain = Vec::new();
        for layer in &layers {
            let name = unpack(&ours, layer, chain.last()).await?;
            chain.push(name);
        }
        look_at(&ours, &chain).await?;
        take_down(&ours, &chain).await
    })?;
    let layers = node.daemon()?.layers()?;
    ensure!(layers.is_empty(), "layers were left: {layers:?}");
    node.assert_nothing_mounted()
}

/// A layer of an image.
struct Layer {
    blob: Descriptor,
    /// Digest of the uncompressed tar, as the image's configuration has it.
    diff_id: String,
}

/// The layers of an image in containerd's content store, lowest first.
async fn layers_of(containerd: &Client, image: &str) -> Result<Vec<Layer>> {
    let request = with_namespace!(GetImageRequest { name: image.to_owned() }, NAMESPACE);
    let image = containerd.images().get(request).await?.into_inner().image.context("no image")?;
    let target = image.target.context("the image has no target")?;
    let manifest = read_json(containerd, &target.digest).await?;
    let config = read_json(containerd, text(&manifest, "/config/digest")?).await?;
    let blobs = manifest["layers"].as_array().context("no layers")?;
    let diff_ids = config["rootfs"]["diff_ids"].as_array().context("no diff_ids")?;
    ensure!(blobs.len() == diff_ids.len(), "{} layers, {} diffIDs", blobs.len(), diff_ids.len());
    blobs.iter().zip(diff_ids).map(|(blob, diff_id)| layer(blob, diff_id)).collect()
}

fn layer(blob: &Value, diff_id: &Value) -> Result<Layer> {
    let blob = Descriptor {
        media_type: text(blob, "/mediaType")?.to_owned(),
        digest: text(blob, "/digest")?.to_owned(),
        size: blob["size"].as_i64().context("no size")?,
        ..Descriptor::default()
    };
    Ok(Layer { blob, diff_id: text(diff_id, "")?.to_owned() })
}

fn text<'a>(value: &'a Value, pointer: &str) -> Result<&'a str> {
    value.pointer(pointer).and_then(Value::as_str).with_context(|| format!("no text at {pointer:?}: {value}"))
}

async fn read_json(containerd: &Client, digest: &str) -> Result<Value> {
    let read = ReadContentRequest { digest: digest.to_owned(), ..ReadContentRequest::default() };
    let mut pieces = containerd.content().read(with_namespace!(read, NAMESPACE)).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.message().await? {
        bytes.extend(piece.data);
    }
    serde_json::from_slice(&bytes).with_context(|| format!("content {digest}"))
}

/// Prepares, applies and commits a layer; returns the name of the committed snapshot.
async fn unpack(ours: &Client, layer: &Layer, parent: Option<&String>) -> Result<String> {
    let name = chain_id(parent, &layer.diff_id);
    let key = format!("extract-1-abcd {name}");
    let labels = HashMap::from([(EXTRACTION.to_owned(), name.clone())]);
    let prepare = PrepareSnapshotRequest {
        snapshotter: SNAPSHOTTER.to_owned(),
        key: key.clone(),
        parent: parent.cloned().unwrap_or_default(),
        labels: labels.clone(),
    };
    let mounts = ours.snapshots().prepare(with_namespace!(prepare, NAMESPACE)).await?.into_inner().mounts;
    let apply = ApplyRequest { diff: Some(layer.blob.clone()), mounts, ..ApplyRequest::default() };
    let applied = ours.diff().apply(with_namespace!(apply, NAMESPACE)).await?.into_inner();
    let applied = applied.applied.context("no descriptor")?;
    ensure!(applied.digest == layer.diff_id, "diffID is {}, not {}", applied.digest, layer.diff_id);
    ensure!(applied.media_type == "application/vnd.oci.image.layer.v1.tar", "{}", applied.media_type);
    let commit =
        CommitSnapshotRequest { snapshotter: SNAPSHOTTER.to_owned(), name: name.clone(), key, labels };
    ours.snapshots().commit(with_namespace!(commit, NAMESPACE)).await?;
    Ok(name)
}

/// The chainID of the OCI image specification.
fn chain_id(parent: Option<&String>, diff_id: &str) -> String {
    match parent {
        None => diff_id.to_owned(),
        Some(parent) => {
            let hash = Sha256::digest(format!("{parent} {diff_id}"));
            format!("sha256:{}", digest::hex(&hash))
        }
    }
}

/// Asks for everything that can be asked of committed snapshots and of a container's.
async fn look_at(ours: &Client, chain: &[String]) -> Result<()> {
    let top = chain.last().context("no layer")?;
    for (at, name) in chain.iter().enumerate() {
        let info = stat(ours, name).await?;
        ensure!(info.kind() == Kind::Committed && info.name == *name, "{info:?}");
        ensure!(Some(&info.parent) == at.checked_sub(1).map(|at| &chain[at]).or(Some(&String::new())));
        ensure!(info.created_at.is_some() && info.updated_at.is_some(), "{info:?}");
        ensure!(info.labels.get(EXTRACTION) == Some(name), "{info:?}");
        let usage = UsageRequest { snapshotter: SNAPSHOTTER.to_owned(), key: name.clone() };
        let usage = ours.snapshots().usage(usage).await?.into_inner();
        ensure!(usage.size >= 4096 && usage.inodes >= 1, "{usage:?}");
    }
    ensure!(list(ours, &[]).await?.len() == chain.len());
    let filter = format!("labels.\"{EXTRACTION}\"=={top}");
    let found = list(ours, &[filter]).await?;
    ensure!(found.iter().map(|info| &info.name).eq([top]), "{found:?}");

    let prepare = PrepareSnapshotRequest {
        snapshotter: SNAPSHOTTER.to_owned(),
        key: "container".to_owned(),
        parent: top.clone(),
        ..PrepareSnapshotRequest::default()
    };
    let mounts = ours.snapshots().prepare(prepare).await?.into_inner().mounts;
    ensure!(mounts.iter().filter(|mount| mount.r#type == "erofs").count() == chain.len(), "{mounts:?}");
    ensure!(mounts.last().is_some_and(|mount| mount.r#type.ends_with("overlay")), "{mounts:?}");
    let again = MountsRequest { snapshotter: SNAPSHOTTER.to_owned(), key: "container".to_owned() };
    ensure!(ours.snapshots().mounts(again).await?.into_inner().mounts == mounts);
    let view = ViewSnapshotRequest {
        snapshotter: SNAPSHOTTER.to_owned(),
        key: "view".to_owned(),
        parent: top.clone(),
        ..ViewSnapshotRequest::default()
    };
    ensure!(!ours.snapshots().view(view).await?.into_inner().mounts.is_empty());

    let mut info = stat(ours, "container").await?;
    ensure!(info.kind() == Kind::Active, "{info:?}");
    info.labels.insert("a".to_owned(), "1".to_owned());
    let update = UpdateSnapshotRequest {
        snapshotter: SNAPSHOTTER.to_owned(),
        info: Some(info),
        update_mask: Some(FieldMask { paths: vec!["labels.a".to_owned()] }),
    };
    let updated = ours.snapshots().update(update).await?.into_inner().info.context("no record")?;
    ensure!(updated.labels.get("a").is_some_and(|value| value == "1"), "{updated:?}");
    Ok(())
}

/// Removes everything, leaves first, as garbage collection does.
async fn take_down(ours: &Client, chain: &[String]) -> Result<()> {
    let committed = chain.iter().rev().map(String::as_str);
    for key in ["container", "view"].into_iter().chain(committed) {
        let remove = RemoveSnapshotRequest { snapshotter: SNAPSHOTTER.to_owned(), key: key.to_owned() };
        ours.snapshots().remove(remove).await.with_context(|| format!("remove {key}"))?;
    }
    ours.snapshots().cleanup(CleanupRequest { snapshotter: SNAPSHOTTER.to_owned() }).await?;
    let left = list(ours, &[]).await?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

fn sees_the_codes(bed: &Bed) -> Result<()> {
    let mut node = start(bed, "independent-codes")?;
    block_on(async {
        let ours = connect(&mut node).await?;
        let absent = StatSnapshotRequest { snapshotter: SNAPSHOTTER.to_owned(), key: "absent".to_owned() };
        expect(ours.snapshots().stat(absent).await, Code::NotFound)?;
        let filters = vec!["name=x".to_owned()];
        let list = ListSnapshotsRequest { snapshotter: SNAPSHOTTER.to_owned(), filters };
        expect(ours.snapshots().list(list).await, Code::InvalidArgument)?;
        let prepare = PrepareSnapshotRequest {
            snapshotter: SNAPSHOTTER.to_owned(),
            key: "taken".to_owned(),
            ..PrepareSnapshotRequest::default()
        };
        ours.snapshots().prepare(prepare.clone()).await?;
        expect(ours.snapshots().prepare(prepare).await, Code::AlreadyExists)?;

        let foreign =
            Mount { r#type: "bind".to_owned(), source: node.dir().display().to_string(), ..Mount::default() };
        let layer = Descriptor {
            media_type: "application/vnd.oci.image.layer.v1.tar+gzip".to_owned(),
            digest: format!("sha256:{}", digest::hex(&Sha256::digest(b"absent"))),
            size: 6,
            ..Descriptor::default()
        };
        let apply =
            ApplyRequest { diff: Some(layer), mounts: vec![foreign.clone()], ..ApplyRequest::default() };
        expect(ours.diff().apply(apply).await, Code::Unimplemented)?;
        let diff = DiffRequest { right: vec![foreign], ..DiffRequest::default() };
        expect(ours.diff().diff(diff).await, Code::Unimplemented)
    })
}

fn expect<T>(result: Result<Response<T>, Status>, code: Code) -> Result<()> {
    let status = result.err().with_context(|| format!("an answer instead of {code:?}"))?;
    ensure!(status.code() == code, "{status:?}");
    ensure!(!status.message().is_empty(), "{code:?} comes without a text");
    Ok(())
}

async fn stat(ours: &Client, key: &str) -> Result<Info> {
    let stat = StatSnapshotRequest { snapshotter: SNAPSHOTTER.to_owned(), key: key.to_owned() };
    ours.snapshots().stat(stat).await?.into_inner().info.context("no record")
}

async fn list(ours: &Client, filters: &[String]) -> Result<Vec<Info>> {
    let request = ListSnapshotsRequest { snapshotter: SNAPSHOTTER.to_owned(), filters: filters.to_vec() };
    let mut blocks = ours.snapshots().list(request).await?.into_inner();
    let mut infos = Vec::new();
    while let Some(block) = blocks.message().await? {
        infos.extend(block.info);
    }
    Ok(infos)
}
