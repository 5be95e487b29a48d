//! Comparisons with real snapshots, files and layers: what becomes of them in the content store, and what
//! is left behind when that fails. The store speaks containerd's protocol, but can misbehave in ways that
//! a healthy containerd cannot be brought to (`integration/` has the healthy one).

// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../tar_semantics/archive.rs"]
#[allow(dead_code)]
mod archive;
mod failures;
mod layers;
mod leases;
#[path = "../tar_semantics/listing.rs"]
#[allow(dead_code)]
mod listing;
#[path = "../helpers/skipped.rs"]
mod skipped;
mod store;
mod written;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nexuserofs::diff::compare::Error;
use nexuserofs::diff::{CompareRequest, ContentStore, Descriptor, Differ};
use nexuserofs::expose::mount::Mount;
use nexuserofs::image::digest::Digest;
use nexuserofs::layer::{HashTree, LayerRecord, Protection, build};
use nexuserofs::snapshot::{Profile, SnapshotSettings, Snapshotter};
use store::{Blob, Store};
use tempfile::TempDir;

use archive::{Entry, archive};

const PROFILE: &str = "nexuserofs";
const NAMESPACE: &str = "default";
const LEASE: &str = "of-the-client";
const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
const EROFS: &str = "application/vnd.erofs.layer.v1";
const UNCOMPRESSED: &str = "containerd.io/uncompressed";
const DEADLINE: Duration = Duration::from_secs(60);

/// A differ, its snapshots in a directory of their own, and the store that it writes to.
struct Bench {
    _root: TempDir,
    snapshots: Snapshotter,
    differ: Differ,
    store: Arc<Store>,
}

impl Bench {
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        let store = Store::start(root.path());
        store.state.lock().unwrap().leases.insert(LEASE.to_owned(), store::Lease::default());
        let profiles = BTreeMap::from([(PROFILE.to_owned(), Profile::default())]);
        let data = root.path().join("data");
        let settings = SnapshotSettings {
            root: data.to_str().unwrap().parse().unwrap(),
            protection: Protection::default(),
            profiles,
        };
        let (snapshots, _) = Snapshotter::open(settings).unwrap();
        let differ = Differ::new(snapshots.clone(), ContentStore::new(&store.address).unwrap(), 2);
        Self { _root: root, snapshots, differ, store }
    }

    /// Commits a layer of these entries as `name`.
    fn layer(&self, name: &str, parent: Option<&str>, entries: &[Entry]) {
        self.layer_of(name, parent, &archive(entries));
    }

    /// Commits the layer of a tar as `name`.
    fn layer_of(&self, name: &str, parent: Option<&str>, mut tar: &[u8]) {
        let labels = BTreeMap::from([("containerd.io/snapshot.ref".to_owned(), name.to_owned())]);
        let key = format!("extract {name}");
        let mounts = self.snapshots.prepare(PROFILE, &key, parent, labels.clone()).unwrap();
        let claim = self.snapshots.claim(&mounts).unwrap().unwrap();
        let staging = self.snapshots.staging().unwrap();
        let (diff_id, bytes) = (Digest::of(tar), tar.len() as u64);
        let built =
            build::read(&mut tar, &staging.layer_path(), HashTree::Without).unwrap().seal(&diff_id).unwrap();
        let record = LayerRecord::from_tar(diff_id, bytes, built.image_bytes, built.root, diff_id);
        self.snapshots.attach_built(&claim, staging, record).unwrap();
        self.snapshots.commit(PROFILE, name, &key, None, labels).unwrap();
    }

    fn view(&self, key: &str, parent: Option<&str>) -> Vec<Mount> {
        self.snapshots.view(PROFILE, key, parent, BTreeMap::new()).unwrap()
    }

    /// An active snapshot, and the directory that it writes to.
    fn active(&self, key: &str, parent: Option<&str>) -> (Vec<Mount>, PathBuf) {
        let mounts = self.snapshots.prepare(PROFILE, key, parent, BTreeMap::new()).unwrap();
        let upper = mounts.iter().flat_map(|mount| {
            let options = mount.options.iter().filter_map(|option| option.strip_prefix("upperdir="));
            options.chain((mount.fstype == "bind").then_some(mount.source.as_str()))
        });
        let upper = PathBuf::from(upper.last().unwrap());
        (mounts, upper)
    }

    async fn compare(&self, request: CompareRequest) -> Result<Descriptor, Error> {
        tokio::time::timeout(DEADLINE, self.differ.compare(request)).await.unwrap()
    }

    /// The blob of a comparison that has to succeed.
    async fn difference(&self, request: CompareRequest) -> Blob {
        let descriptor = self.compare(request).await.unwrap();
        let blob = self.store.blob(&descriptor.digest);
        assert_eq!((Digest::of(&blob.bytes), blob.bytes.len() as u64), (descriptor.digest, descriptor.size));
        blob
    }

    /// Waits until no upload is left.
    async fn settled(&self) {
        let settled = async {
            while !self.store.state.lock().unwrap().uploads.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, settled).await.unwrap();
    }
}

/// A request for an uncompressed tar, under the client's lease.
fn request(left: Vec<Mount>, right: Vec<Mount>) -> CompareRequest {
    CompareRequest {
        namespace: NAMESPACE.to_owned(),
        lease: Some(LEASE.to_owned()),
        left,
        right,
        media_type: TAR.to_owned(),
        reference: String::new(),
        labels: BTreeMap::new(),
        source_date_epoch: None,
    }
}
