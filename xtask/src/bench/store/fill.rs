//! Fills the stores with images of many layers and with containers' snapshots on them.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow};
use nexuserofs_integration::client::{Client, Labels, extraction_labels};
use nexuserofs_integration::images::tiny::{TinyLayer, TinyTar};
use nexuserofs_integration::node::connection::Connection;
use nexuserofs_integration::node::{Containerd, Daemon};

use super::calls::{Route, Target};

/// Layers of the image that the measured calls are about: the same in the small store and in the large.
pub(super) const IMAGE_LAYERS: u32 = 32;

/// Layers of all other images.
const DEEP_LAYERS: u32 = 128;

/// How many layers differ; the images share them, as images do. A multiple of the layers of an image.
const DIFFERENT_LAYERS: u32 = 8 * DEEP_LAYERS;

/// Images that are unpacked at the same time.
const THREADS: usize = 4;

/// Keeps everything in containerd from its garbage collection.
const LEASE: &str = "bench-store";

/// Fills the stores of one node.
pub(super) struct Filler {
    containerd: Client,
    daemon: Client,
}

/// How a snapshot gets the content of a layer before it is committed.
#[derive(Clone, Copy, Debug)]
enum Content {
    /// A layer of its own is applied.
    Layer,
    /// Nothing is written.
    Nothing,
}

impl Filler {
    pub(super) fn new(containerd: &Containerd, daemon: &Daemon, namespace: &str) -> Result<Self> {
        let connection = Arc::new(containerd.connect(namespace)?);
        let containerd = Client::new(connection, "");
        containerd.create_lease(LEASE)?;
        let daemon = Client::new(Arc::new(Connection::open(daemon.socket(), namespace)?), "");
        Ok(Self { containerd: containerd.under(LEASE), daemon })
    }

    /// Our store, as containerd fills it.
    pub(super) fn ours_through_containerd(
        &self,
        snapshotter: &str,
        committed: u32,
        active: u32,
    ) -> Result<Target> {
        let target = Target::new(self.containerd.of(snapshotter), Route::Containerd);
        self.fill(target, Content::Layer, committed, active)
    }

    /// Our store, filled without containerd; the content of the layers comes from containerd nevertheless.
    pub(super) fn ours_directly(&self, profile: &str, committed: u32, active: u32) -> Result<Target> {
        let target = Target::new(self.daemon.of(profile), Route::Daemon);
        self.fill(target, Content::Layer, committed, active)
    }

    /// The store of one of containerd's own snapshotters.
    pub(super) fn peer(&self, snapshotter: &str, committed: u32, active: u32) -> Result<Target> {
        let target = Target::new(self.containerd.of(snapshotter), Route::Containerd);
        self.fill(target, Content::Nothing, committed, active)
    }

    /// What containerd put into our store, by the keys that the daemon knows: `NAMESPACE/NUMBER/KEY`.
    pub(super) fn seen_by_daemon(&self, profile: &str) -> Result<Target> {
        let mut target = Target::new(self.daemon.of(profile), Route::Daemon);
        for info in target.client.list()? {
            let name = info.name.splitn(3, '/').nth(2).context("a key of containerd's without a number")?;
            match Name::parse(name) {
                Some(Name::Layer(number)) => target.add_committed(number, info.name),
                Some(Name::Container) => target.active.push(info.name),
                None => {}
            }
        }
        Ok(target)
    }

    /// Images of [`DEEP_LAYERS`] layers, the first of which has [`IMAGE_LAYERS`]; containers on them in turn.
    fn fill(&self, mut target: Target, content: Content, committed: u32, active: u32) -> Result<Target> {
        eprintln!("filling {target}: {committed} layers, {active} containers");
        if let Content::Layer = content {
            self.write_blobs(committed.min(DIFFERENT_LAYERS))?;
        }
        let images = images(committed);
        let next = AtomicUsize::new(0);
        let client = &target.client;
        thread::scope(|scope| {
            let work = || -> Result<()> {
                while let Some(image) = images.get(next.fetch_add(1, Ordering::Relaxed)) {
                    self.unpack(client, content, image.clone())?;
                }
                Ok(())
            };
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().map_err(|_| anyhow!("a filling thread panicked"))?)
        })?;
        (0..committed).for_each(|number| target.add_committed(number, layer_name(number)));
        for (number, image) in (0..active).zip(images.iter().cycle()) {
            let key = format!("container-{number}");
            target.client.prepare(&key, &layer_name(image.end - 1), &Labels::new())?;
            target.active.push(key);
        }
        Ok(target)
    }

    /// Puts the first layers into containerd's content store.
    fn write_blobs(&self, count: u32) -> Result<()> {
        for number in 0..count {
            let TinyLayer { layer, blob } = tiny(number)?;
            self.containerd.write(&layer, blob)?;
        }
        Ok(())
    }

    /// Makes the committed snapshots with these numbers, each on the one before it.
    fn unpack(&self, client: &Client, content: Content, image: Range<u32>) -> Result<()> {
        let mut parent = String::new();
        for number in image {
            parent = self
                .commit(client, content, number, &parent)
                .with_context(|| format!("make layer {number}"))?;
        }
        Ok(())
    }

    /// Makes the committed snapshot with this number and returns its name.
    fn commit(&self, client: &Client, content: Content, number: u32, parent: &str) -> Result<String> {
        let name = layer_name(number);
        let key = format!("extract-{number}");
        let labels = extraction_labels(&name, "");
        let mounts = client.prepare(&key, parent, &labels)?;
        match content {
            Content::Nothing => {}
            Content::Layer => {
                let TinyLayer { layer, .. } = tiny(number % DIFFERENT_LAYERS)?;
                client.apply(&layer, mounts)?;
            }
        }
        client.commit(&name, &key, "", &labels)?;
        Ok(name)
    }
}

/// A layer that no other number gives.
fn tiny(number: u32) -> Result<TinyLayer> {
    TinyTar::new()
        .directory("opt/", 0o755)?
        .file(&format!("opt/{number}"), number.to_string().as_bytes())?
        .finish()
}

/// The numbers of the layers of each image, of which the last has as many as are left.
fn images(committed: u32) -> Vec<Range<u32>> {
    let first = 0..committed.min(IMAGE_LAYERS);
    let others = (first.end..committed).step_by(DEEP_LAYERS as usize);
    let others = others.map(|start| start..committed.min(start + DEEP_LAYERS));
    std::iter::once(first).chain(others).collect()
}

fn layer_name(number: u32) -> String {
    format!("layer-{number}")
}

/// What the names above stand for.
enum Name {
    Layer(u32),
    Container,
}

impl Name {
    fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("layer-") {
            Some(number) => number.parse().ok().map(Self::Layer),
            None => text.starts_with("container-").then_some(Self::Container),
        }
    }
}

impl Target {
    /// Notes a committed snapshot, and what it is the top of.
    fn add_committed(&mut self, number: u32, name: String) {
        match number {
            number if number + 1 == IMAGE_LAYERS => self.image.clone_from(&name),
            number if number + 1 == IMAGE_LAYERS + DEEP_LAYERS => self.deep_image = Some(name.clone()),
            _ => {}
        }
        self.committed.push(name);
    }
}
