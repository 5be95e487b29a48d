//! The differ against a content store that can fail: what it answers, what it leaves behind, and that
//! the next try succeeds. Snapshots, files and layers are real; only the store misbehaves, in ways that
//! a healthy containerd cannot be brought to (`integration/` has the healthy one).

// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../tar_semantics/archive.rs"]
#[allow(dead_code)]
mod archive;
mod cached;
mod cancelled;
mod mkfs;
mod native;
mod refused;
mod shared;
#[path = "../helpers/skipped.rs"]
mod skipped;
mod store;
mod verity;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nexuserofs::diff::{Applied, ApplyRequest, ContentStore, Descriptor, Differ, Error};
use nexuserofs::expose::mount::Mount;
use nexuserofs::image::digest::Digest;
use nexuserofs::layer::Protection;
use nexuserofs::snapshot::{Profile, SnapshotSettings, Snapshotter};
use store::{Fault, Store};
use tempfile::TempDir;

const PROFILE: &str = "nexuserofs";
const NAMESPACE: &str = "default";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const DEADLINE: Duration = Duration::from_secs(60);

/// A differ, its snapshots in a directory of their own, and the store that it reads.
struct Bench {
    root: TempDir,
    snapshots: Snapshotter,
    differ: Differ,
    store: Arc<Store>,
}

impl Bench {
    async fn new() -> Self {
        Self::with_profile(Profile::default()).await
    }

    async fn with_profile(profile: Profile) -> Self {
        let root = TempDir::new().unwrap();
        let store = Store::start(root.path()).await;
        let data = root.path().join("data");
        let profiles = BTreeMap::from([(PROFILE.to_owned(), profile)]);
        let settings = SnapshotSettings {
            root: data.to_str().unwrap().parse().unwrap(),
            protection: Protection::default(),
            profiles,
        };
        let (snapshots, _) = Snapshotter::open(settings).unwrap();
        let content = ContentStore::new(&store.address).unwrap();
        let differ = Differ::new(snapshots.clone(), content, 2);
        Self { root, snapshots, differ, store }
    }

    /// An active snapshot for a layer that its client announces with `diff_id`.
    fn extraction(&self, key: &str, diff_id: Option<Digest>) -> Vec<Mount> {
        let mut labels = BTreeMap::from([("containerd.io/snapshot.ref".to_owned(), key.to_owned())]);
        labels
            .extend(diff_id.map(|digest| ("containerd.io/snapshot/diff-id".to_owned(), digest.to_string())));
        self.snapshots.prepare(PROFILE, key, None, labels).unwrap()
    }

    async fn apply(&self, blob: &[u8], mounts: &[Mount]) -> Result<Applied, Error> {
        self.apply_as(GZIP, blob, mounts).await
    }

    async fn apply_as(&self, media_type: &str, blob: &[u8], mounts: &[Mount]) -> Result<Applied, Error> {
        let request = self.request(media_type, blob, mounts);
        tokio::time::timeout(DEADLINE, self.differ.apply(request)).await.unwrap()
    }

    fn request(&self, media_type: &str, blob: &[u8], mounts: &[Mount]) -> ApplyRequest {
        let (digest, size) = (Digest::of(blob), blob.len() as u64);
        let descriptor = Descriptor { media_type: media_type.to_owned(), digest, size };
        ApplyRequest { namespace: NAMESPACE.to_owned(), descriptor, mounts: mounts.to_vec() }
    }

    fn commit(&self, key: &str) {
        self.snapshots.commit(PROFILE, &format!("committed {key}"), key, None, BTreeMap::new()).unwrap();
    }

    fn names_in(&self, directory: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.root.path().join("data").join(directory)).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    fn layers(&self) -> Vec<PathBuf> {
        self.names_in("layers")
    }

    /// Waits until nothing is being built any more.
    async fn settled(&self) {
        let settled = async {
            while !self.names_in("staging").is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, settled).await.unwrap();
    }
}

/// A tar with one file of `size` bytes that do not compress, different for each `seed`.
fn tar(seed: u8, size: usize) -> Vec<u8> {
    let mut state = u32::from(seed) + 1;
    let noise = std::iter::repeat_with(move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    });
    let mut bytes = header(size);
    bytes.extend(noise.take(size));
    bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);
    bytes
}

/// The POSIX header of a regular file.
fn header(size: usize) -> Vec<u8> {
    let mut header = vec![0; 512];
    let fields = [
        (0, "file"),
        (100, "0000644"),
        (108, "0000000"),
        (116, "0000000"),
        (124, &format!("{size:011o}")),
        (136, "00000000000"),
        (148, "        "),
        (156, "0"),
        (257, "ustar\x0000"),
    ];
    for (offset, text) in fields {
        header[offset..offset + text.len()].copy_from_slice(text.as_bytes());
    }
    let sum: u32 = header.iter().copied().map(u32::from).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    header
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_is_built_from_a_file_and_from_a_stream() {
    let tar = tar(1, 5 << 20);
    let blob = gzip(&tar);
    let mut images = Vec::new();
    for route in [Fault::None, Fault::NoDirectory] {
        let bench = Bench::new().await;
        bench.store.put(&blob, route);
        let applied = bench.apply(&blob, &bench.extraction("layer", None)).await.unwrap();
        assert_eq!((applied.digest, applied.size), (Digest::of(&tar), tar.len() as u64));
        assert_eq!(bench.store.reads() > 0, route == Fault::NoDirectory, "{route:?}");
        bench.commit("layer");
        images.push(fs::read(bench.layers()[0].join("layer.erofs")).unwrap());
    }
    assert!(images[0] == images[1], "one layer, whichever way its blob came");
}
