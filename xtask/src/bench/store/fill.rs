//! Fills the stores with images of many layers and with containers' snapshots on them.

use std::sync::Arc;

use anyhow::{Context, Result};
use nexuserofs_integration::client::{Client, Labels, extraction_labels};
use nexuserofs_integration::images::tiny::{TinyLayer, TinyTar};
use nexuserofs_integration::node::connection::Connection;
use nexuserofs_integration::node::{Containerd, Daemon};

use super::calls::{Route, Target};

/// Layers of the image that the measured calls are about: the same in the small store and in the large.
pub(super) const IMAGE_LAYERS: u32 = 32;

/// Layers of all other images.
const DEEP_LAYERS: u32 = 128;

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
        let mut parent = String::new();
        let mut tops = Vec::new();
        for number in 0..committed {
            if begins_image(number) {
                tops.extend((!parent.is_empty()).then_some(parent));
                parent = String::new();
            }
            parent = self
                .commit(&target.client, content, number, &parent)
                .with_context(|| format!("make layer {number}"))?;
            target.add_committed(number, parent.clone());
        }
        tops.push(parent);
        for (number, parent) in (0..active).zip(tops.iter().cycle()) {
            let key = format!("container-{number}");
            target.client.prepare(&key, parent, &Labels::new())?;
            target.active.push(key);
        }
        Ok(target)
    }

    /// Makes the committed snapshot with this number and returns its name.
    fn commit(&self, client: &Client, content: Content, number: u32, parent: &str) -> Result<String> {
        let name = format!("layer-{number}");
        let key = format!("extract-{number}");
        let labels = extraction_labels(&name, "");
        let mounts = client.prepare(&key, parent, &labels)?;
        match content {
            Content::Nothing => {}
            Content::Layer => {
                let TinyLayer { layer, blob } = tiny(number)?;
                self.containerd.write(&layer, blob)?;
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

/// Whether the layer with this number is the lowest of an image.
const fn begins_image(number: u32) -> bool {
    number >= IMAGE_LAYERS && (number - IMAGE_LAYERS).is_multiple_of(DEEP_LAYERS)
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
