//! The image that is measured: made, unpacked by our daemon, and merged anew for each round.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nexuserofs_integration::bed::Bed;
use nexuserofs_integration::client::{Client, Labels, extraction_labels};
use nexuserofs_integration::images::tiny::{TinyLayer, TinyTar};
use nexuserofs_integration::node::connection::Connection;
use nexuserofs_integration::node::{DaemonOptions, LogLevel, Node, NodeOptions};
use serde::Deserialize;

use super::mounts::Files;

/// The profile that merges layers, which exists when the settings name it.
const PROFILE: &str = "nexuserofs-merged";
const SETTINGS: &str = "[profiles.nexuserofs-merged]\n";

/// containerd namespace of the layers' content.
const NAMESPACE: &str = "bench";

/// Files that each layer adds to a directory of its own, and to one that all layers have.
const FILES: u32 = 100;

/// Directory that all layers have.
pub(super) const COMMON: &str = "usr/lib/common";

/// How long the daemon may take to answer after a restart.
const PATIENCE: Duration = Duration::from_secs(60);

/// An image, unpacked.
pub(super) struct Image {
    node: Node,
    daemon: Client,
    /// Name of the topmost snapshot.
    top: String,
    layers: u32,
}

/// What two snapshots on the image took, of which the first had to wait until it was merged.
pub(super) struct Prepared {
    pub(super) first: Duration,
    pub(super) next: Duration,
    /// The merging itself, as the daemon's log has it: reading the layers' metadata, and making the image in memory.
    pub(super) merging: Duration,
}

impl Image {
    /// Makes an image of so many layers and unpacks it.
    pub(super) fn unpack(bed: &Bed, layers: u32) -> Result<Self> {
        let daemon = DaemonOptions {
            log_level: LogLevel::Info,
            settings: Some(SETTINGS.to_owned()),
            ..DaemonOptions::default()
        };
        let options = NodeOptions { daemon: Some(daemon), ..NodeOptions::default() };
        let mut node = Node::start(&bed.place, "merge", &options)?;
        let content = Client::new(Arc::new(node.containerd.connect(NAMESPACE)?), "");
        content.create_lease(NAMESPACE)?;
        let content = content.under(NAMESPACE);
        let connection = Connection::open(node.daemon()?.socket(), NAMESPACE)?;
        let daemon = Client::new(Arc::new(connection), PROFILE);
        let mut top = String::new();
        for number in 0..layers {
            let TinyLayer { layer, blob } = layer(number)?;
            content.write(&layer, blob)?;
            let (name, key) = (format!("layer-{number}"), format!("extract-{number}"));
            let labels = extraction_labels(&name, "");
            let mounts = daemon.prepare(&key, "", &labels)?;
            daemon.apply(&layer, mounts)?;
            daemon.commit(&name, &key, &top, &labels)?;
            top = name;
        }
        Ok(Self { node, daemon, top, layers })
    }

    /// Where the node has its files.
    pub(super) fn dir(&self) -> &Path {
        self.node.dir()
    }

    /// Files of all layers together.
    pub(super) const fn entries(&self) -> u32 {
        self.layers * 2 * FILES
    }

    /// Restarts the daemon without any merged image, and makes two snapshots.
    pub(super) fn prepare_anew(&mut self) -> Result<Prepared> {
        let daemon = self.node.daemon()?;
        daemon.stop()?;
        let chains = daemon.root().join("chains");
        fs::remove_dir_all(&chains).with_context(|| format!("remove {}", chains.display()))?;
        daemon.restart()?;
        let begun = Instant::now();
        while self.daemon.list().is_err() {
            ensure!(begun.elapsed() < PATIENCE, "the daemon does not answer after its restart");
            thread::sleep(Duration::from_millis(1));
        }
        let first = self.prepare("first")?;
        let next = self.prepare("next")?;
        for key in ["first", "next"] {
            self.daemon.remove(key)?;
        }
        Ok(Prepared { first, next, merging: merging(&self.node.daemon()?.log()?)? })
    }

    fn prepare(&self, key: &str) -> Result<Duration> {
        let begun = Instant::now();
        self.daemon.prepare(key, &self.top, &Labels::new())?;
        Ok(begun.elapsed())
    }

    /// The files of the image, as the record beside the merged one has them.
    pub(super) fn files(&self) -> Result<Files> {
        let daemon = self.node.daemon.as_ref().context("no daemon")?;
        let directory = daemon.entries("chains")?.pop().context("nothing is merged")?;
        let record: Record = serde_json::from_slice(&fs::read(directory.join("chain.json"))?)?;
        let file = |layer: Layer| daemon.root().join("layers").join(layer.key).join("layer.erofs");
        let layers: Vec<PathBuf> = record.layers.into_iter().map(file).collect();
        Ok(Files { layers, merged: directory.join("fsmeta.erofs") })
    }
}

/// What of `chain.json` is looked at.
#[derive(Deserialize)]
struct Record {
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct Layer {
    key: String,
}

/// A line of the daemon's log.
#[derive(Deserialize)]
struct Line {
    message: String,
    duration_ms: Option<f64>,
}

/// What the last merging took, by the daemon's log.
fn merging(log: &str) -> Result<Duration> {
    let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    let merged = lines.rfind(|line| line.message == "merged layers");
    let milliseconds = merged.and_then(|line| line.duration_ms);
    Ok(Duration::from_secs_f64(milliseconds.context("the daemon's log tells of no merging")? / 1e3))
}

/// A layer with files of its own, some of them in a directory that all layers have, and one that each replaces.
fn layer(number: u32) -> Result<TinyLayer> {
    let mut tar = TinyTar::new()
        .directory("usr/", 0o755)?
        .directory("usr/lib/", 0o755)?
        .directory(&format!("{COMMON}/"), 0o755)?
        .file(&format!("{COMMON}/replaced"), number.to_string().as_bytes())?
        .directory("opt/", 0o755)?
        .directory(&format!("opt/{number}/"), 0o755)?;
    for file in 0..FILES {
        let content = format!("file {file} of layer {number}\n");
        tar = tar
            .file(&format!("{COMMON}/{number}-{file}"), content.as_bytes())?
            .file(&format!("opt/{number}/{file}"), content.as_bytes())?;
    }
    tar.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_merging_in_the_log_counts() {
        let log = "{\"message\":\"listening\"}\nno line\n\
            {\"message\":\"merged layers\",\"duration_ms\":3.5}\n{\"message\":\"merged layers\",\"duration_ms\":2.5}\n";
        assert_eq!(merging(log).unwrap(), Duration::from_micros(2500));
        assert!(merging("").is_err());
    }
}
