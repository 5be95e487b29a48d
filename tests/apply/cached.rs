//! A layer that one of the operator's caches has.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use nexuserofs::diff::Differ;
use nexuserofs::image::digest::Digest;
use nexuserofs::layer::cache::LayerCache;
use nexuserofs::layer::{HashTree, LayerRecord, Recipe, build};

use crate::store::Fault;
use crate::{Bench, gzip, tar};

/// Puts the layer of `tar` into the cache under the diffID `name`, and returns its file.
pub(crate) fn put(cache: &LayerCache, tar: &[u8], name: Digest) -> PathBuf {
    let slot = cache.slot().unwrap();
    let built = build::read(&mut &*tar, slot.path(), HashTree::Without).unwrap().seal(&name).unwrap();
    let record = LayerRecord::from_tar(name, tar.len() as u64, built.image_bytes, built.root, name);
    slot.publish(name, &record).unwrap().path().to_owned()
}

impl Bench {
    async fn with_cache() -> (Self, LayerCache) {
        let bench = Self::new().await;
        let cache = LayerCache::new(bench.root.path().join("cache"));
        let differ = Differ::clone(&bench.differ).with_caches([cache.clone()]);
        (Self { differ, ..bench }, cache)
    }

    fn only_layer(&self) -> PathBuf {
        self.layers()[0].join("layer.erofs")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_file_is_taken_and_survives_the_cache() {
    let tar = tar(1, 3 << 20);
    let blob = gzip(&tar);
    let (bench, cache) = Bench::with_cache().await;
    bench.store.put(&blob, Fault::None);
    let file = put(&cache, &tar, Digest::of(&tar));
    let whole = fs::read(&file).unwrap();
    let inode = fs::metadata(&file).unwrap().ino();
    let mounts = bench.extraction("layer", Some(Digest::of(&tar)));
    let applied = bench.apply(&blob, &mounts).await.unwrap();
    assert_eq!((applied.digest, applied.size), (Digest::of(&tar), tar.len() as u64));
    // Of the two ways to take it, a link shows in the inode; a clone shows nowhere.
    let taken = fs::metadata(bench.only_layer()).unwrap();
    assert_eq!(taken.ino() == inode, taken.nlink() == 2);
    bench.commit("layer");
    fs::remove_dir_all(cache.directory()).unwrap();
    assert!(fs::read(bench.only_layer()).unwrap() == whole);
    let known = bench.snapshots.layer_of_blob(&Digest::of(&blob), &Recipe::Native).unwrap();
    assert_eq!(known.content.diff_id, Digest::of(&tar), "the next Apply of this blob reads nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_file_of_other_content_is_not_taken() {
    let (wanted, other) = (tar(1, 1 << 20), tar(2, 1 << 20));
    let blob = gzip(&wanted);
    let (bench, cache) = Bench::with_cache().await;
    bench.store.put(&blob, Fault::None);
    // Right in name, size and UUID, and yet another layer.
    let file = put(&cache, &other, Digest::of(&wanted));
    let mounts = bench.extraction("layer", Some(Digest::of(&wanted)));
    assert_eq!(bench.apply(&blob, &mounts).await.unwrap().digest, Digest::of(&wanted));
    bench.settled().await;
    assert!(fs::read(bench.only_layer()).unwrap() != fs::read(&file).unwrap());
    assert_ne!(fs::metadata(bench.only_layer()).unwrap().ino(), fs::metadata(&file).unwrap().ino());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_blob_is_no_less_damaged_for_a_cache() {
    let tar = tar(1, 1 << 20);
    let blob = gzip(&tar);
    let (bench, cache) = Bench::with_cache().await;
    bench.store.put(&blob, Fault::Damaged);
    put(&cache, &tar, Digest::of(&tar));
    let mounts = bench.extraction("layer", Some(Digest::of(&tar)));
    bench.apply(&blob, &mounts).await.unwrap_err();
    bench.settled().await;
    assert!(bench.layers().is_empty());
}
