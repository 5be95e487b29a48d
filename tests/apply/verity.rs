//! Layers with dm-verity trees, on both ways on which a tar becomes a layer.

use std::fs;
use std::path::PathBuf;

use nexuserofs::config::VerityMode;
use nexuserofs::image::digest::Digest;
use nexuserofs::image::verity;
use nexuserofs::layer::Verity;
use nexuserofs::layer::cache::LayerCache;
use nexuserofs::snapshot::Profile;

use crate::cached::put;
use crate::store::Fault;
use crate::{Bench, gzip, tar};

impl Bench {
    async fn with_trees() -> Self {
        Self::with_profile(Profile { verity: VerityMode::Require, ..Profile::default() }).await
    }

    /// The file of the only layer, after its tree was found to be the one that is told of beside it.
    fn verified_layer(&self) -> PathBuf {
        let directory = self.layers().remove(0);
        let file = directory.join("layer.erofs");
        let text = fs::read(directory.join("layer.erofs.dmverity")).unwrap();
        let told: Verity = serde_json::from_slice(&text).unwrap();
        let bytes = fs::read(&file).unwrap();
        assert_eq!(bytes.len() as u64, told.geometry().file_size());
        let mut damage = Vec::new();
        verity::verify(bytes.as_slice(), &told.parameters().unwrap(), &mut |found| damage.push(found))
            .unwrap();
        assert_eq!(damage, []);
        file
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_is_built_has_its_tree() {
    let tar = tar(1, 5 << 20);
    let blob = gzip(&tar);
    let bench = Bench::with_trees().await;
    bench.store.put(&blob, Fault::None);
    let mounts = bench.extraction("layer", None);
    bench.apply(&blob, &mounts).await.unwrap();
    bench.commit("layer");
    let file = bench.verified_layer();
    let plan =
        bench.snapshots.view(crate::PROFILE, "view", Some("committed layer"), Default::default()).unwrap();
    let expected = format!("X-containerd.dmverity={}.dmverity", file.display());
    assert!(plan[0].options.contains(&expected), "{plan:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_layer_gets_the_tree_that_it_lacks_and_the_cache_stays_as_it_is() {
    let tar = tar(2, 3 << 20);
    let blob = gzip(&tar);
    let diff_id = Digest::of(&tar);
    let bench = Bench::with_trees().await;
    let cache = LayerCache::new(bench.root.path().join("cache"));
    let differ = bench.differ.clone().with_caches([cache.clone()]);
    let bench = Bench { differ, ..bench };
    bench.store.put(&blob, Fault::None);
    let cached = put(&cache, &tar, diff_id);
    let before = fs::read(&cached).unwrap();
    let mounts = bench.extraction("layer", Some(diff_id));
    bench.apply(&blob, &mounts).await.unwrap();
    let file = bench.verified_layer();
    assert!(fs::read(file).unwrap().starts_with(&before));
    assert!(fs::read(&cached).unwrap() == before);
}
