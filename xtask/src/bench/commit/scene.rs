//! Snapshots that are written to, and the layers that are unpacked meanwhile.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nexuserofs_integration::client::{Client, Labels, Mount};
use nexuserofs_integration::images::Layer;
use nexuserofs_integration::images::tiny::{TinyLayer, TinyTar};
use nexuserofs_integration::node::Node;
use nexuserofs_integration::random::Random;
use nexuserofs_integration::unpack::{Durability, Unpacker};

use super::super::rounds::{settle, write_out};

/// containerd namespace of the measurements.
const NAMESPACE: &str = "bench";

/// Keeps the layers' content for all rounds.
const CONTENT_LEASE: &str = "bench-content";
/// Keeps the snapshots of one measurement.
const SNAPSHOT_LEASE: &str = "bench-written";

/// Layers that are unpacked at the same time.
pub(super) const PULLS: u64 = 8;
/// Files in each of them.
const LAYER_FILES: u32 = 24;
/// Size of each, in bytes. They do not compress.
const LAYER_FILE_SIZE: usize = 1 << 20;

/// Snapshots that are written to for one measurement.
const SNAPSHOTS: u32 = 4;
/// Files that are written to each of them, a hundred to a directory.
pub(super) const FILES: u32 = 800;
/// Size of each file, in bytes.
pub(super) const FILE_SIZE: usize = 50_000;

/// What was measured of one Commit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// From the call to its answer.
    pub(super) commit: Duration,
    /// From the call until a snapshot on it was made.
    pub(super) usable: Duration,
}

/// A node with the content of the layers in it.
pub(super) struct Scene<'n> {
    node: &'n Node,
    client: Client,
    layers: Vec<Layer>,
}

impl<'n> Scene<'n> {
    /// Makes the layers and puts them into containerd's content store.
    pub(super) fn new(node: &'n Node) -> Result<Self> {
        let client = Client::new(Arc::new(node.containerd.connect(NAMESPACE)?), "");
        client.create_lease(CONTENT_LEASE)?;
        let content = client.under(CONTENT_LEASE);
        let layers = (0..PULLS).map(|number| {
            let TinyLayer { layer, blob } = layer(number)?;
            content.write(&layer, blob)?;
            Ok(layer)
        });
        let layers = layers.collect::<Result<_>>()?;
        Ok(Self { node, client, layers })
    }

    /// Commits with nothing beside.
    pub(super) fn alone(&self, snapshotter: &str, samples: &mut Vec<Sample>) -> Result<()> {
        let written = Written::new(self, snapshotter)?;
        for number in 0..SNAPSHOTS {
            samples.push(written.commit(number)?);
        }
        written.delete()
    }

    /// Commits for as long as the layers are unpacked with the same snapshotter, and tells how long that took.
    pub(super) fn beside_pulls(&self, snapshotter: &str, samples: &mut Vec<Sample>) -> Result<Duration> {
        let unpacker = Unpacker::new(self.node.containerd.connect(NAMESPACE)?);
        let written = Written::new(self, snapshotter)?;
        let pulls = thread::scope(|scope| {
            let pulls = scope.spawn(|| unpacker.time(snapshotter, &self.layers, Durability::AsIs, &[]));
            for number in 0..SNAPSHOTS {
                let sample = written.commit(number)?;
                // Its time would be partly that of a Commit with nothing beside.
                if pulls.is_finished() {
                    break;
                }
                samples.push(sample);
            }
            pulls.join().map_err(|_| anyhow!("the unpacking thread panicked"))?
        })?;
        written.delete()?;
        Ok(pulls.wall)
    }
}

/// Snapshots that were written to.
struct Written {
    client: Client,
}

impl Written {
    fn new(scene: &Scene<'_>, snapshotter: &str) -> Result<Self> {
        settle(scene.node)?;
        scene.client.create_lease(SNAPSHOT_LEASE)?;
        let client = scene.client.of(snapshotter).under(SNAPSHOT_LEASE);
        for number in 0..SNAPSHOTS {
            let mounts = client.prepare(&key(number), "", &Labels::new())?;
            let directory = written_to(&mounts);
            let directory =
                directory.with_context(|| format!("no directory takes the writes: {mounts:?}"))?;
            write(directory, u64::from(number))?;
        }
        write_out(scene.node)?;
        Ok(Self { client })
    }

    /// Commits one, and makes a snapshot on it.
    fn commit(&self, number: u32) -> Result<Sample> {
        let (name, begun) = (format!("committed-{number}"), Instant::now());
        self.client.commit(&name, &key(number), "", &Labels::new())?;
        let commit = begun.elapsed();
        self.client.prepare(&format!("next-{number}"), &name, &Labels::new())?;
        Ok(Sample { commit, usable: begun.elapsed() })
    }

    fn delete(self) -> Result<()> {
        Ok(self.client.delete_lease(SNAPSHOT_LEASE)?)
    }
}

/// Where a snapshot's writes lie while nothing is mounted: the directory that is bound, or the upper one of an overlay.
fn written_to(mounts: &[Mount]) -> Option<&Path> {
    let last = mounts.last()?;
    let upper = last.options.iter().find_map(|option| option.strip_prefix("upperdir="));
    let bound = (last.r#type == "bind").then_some(last.source.as_str());
    upper.or(bound).map(Path::new)
}

fn key(number: u32) -> String {
    format!("written-{number}")
}

/// Writes files as a build does: many small ones, of content that no two share.
fn write(directory: &Path, seed: u64) -> Result<()> {
    let mut random = Random::new(seed.wrapping_mul(2).wrapping_add(0x5eed));
    for file in 0..FILES {
        let below = directory.join(format!("opt/{}", file / 100));
        fs::create_dir_all(&below).with_context(|| format!("create {}", below.display()))?;
        let path = below.join(file.to_string());
        fs::write(&path, noise(&mut random, FILE_SIZE))
            .with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// A layer that no other number gives.
fn layer(number: u64) -> Result<TinyLayer> {
    let mut random = Random::new(number.wrapping_mul(2).wrapping_add(1));
    let mut tar = TinyTar::new().directory("srv/", 0o755)?;
    for file in 0..LAYER_FILES {
        tar = tar.file(&format!("srv/{number}-{file}"), &noise(&mut random, LAYER_FILE_SIZE))?;
    }
    tar.finish()
}

/// Bytes that do not compress.
fn noise(random: &mut Random, bytes: usize) -> Vec<u8> {
    std::iter::repeat_with(|| random.bits().to_le_bytes()).flatten().take(bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_lie_in_what_is_bound_or_above() {
        let mount = |kind: &str, source: &str, option: &str| Mount {
            r#type: kind.to_owned(),
            source: source.to_owned(),
            options: vec!["rw".to_owned(), option.to_owned()],
            ..Mount::default()
        };
        let layer = mount("erofs", "/layer", "loop");
        assert_eq!(written_to(&[mount("bind", "/fs", "rbind")]), Some(Path::new("/fs")));
        let overlay = mount("format/overlay", "overlay", "upperdir=/up");
        assert_eq!(written_to(&[layer.clone(), overlay]), Some(Path::new("/up")));
        assert_eq!(written_to(&[layer]), None);
    }
}
