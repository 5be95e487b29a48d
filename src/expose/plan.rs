//! Mount plans: what containerd mounts for a snapshot.
//!
//! A plan depends only on what was recorded when the snapshot was made, so that it stays the same
//! whatever the daemon's settings become. It holds templates of containerd's mount manager
//! (`core/mount/manager` in containerd): an entry whose type starts with `format/` has
//! `{{ mount 0 }}` replaced by where entry 0 was mounted, and `{{ overlay 0 2 }}` by where entries 0
//! to 2 were, joined by colons.
//!
//! Entries are in the order of mounting. Layers stand newest first, which is the order of overlay's
//! `lowerdir`.

use serde::{Deserialize, Serialize};

use super::mount::Mount;
use crate::layer::LayerKey;
use crate::layer::shelf::IMAGE_NAME;

/// Directory of a snapshot that receives what is written: overlay's upper directory.
pub const UPPER_NAME: &str = "fs";
/// Overlay's work directory beside it.
pub const WORK_NAME: &str = "work";
/// File system in a file that receives what is written. Virtual machine runtimes recognise it by this name.
pub const BLOCK_NAME: &str = "rwlayer.img";

/// How the layers are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flavour {
    /// One EROFS entry for each layer, and templates that join them.
    Template,
}

/// What lies under a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lower {
    /// How the layers are handed out.
    pub flavour: Flavour,
    /// The layers of the parent chain, newest first. Empty without a parent.
    pub layers: Vec<LayerKey>,
    /// Options that the operator adds to overlay mounts.
    pub overlay_options: Vec<String>,
}

/// What receives the changes of an active snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Writable {
    /// A directory that a differ fills; nobody runs in it.
    Extraction,
    /// A directory.
    Directory,
    /// An ext4 file with `upper/` and `work/` in it.
    Block,
    /// Nothing: the snapshot had its layer when it was made, and only waits for its commit.
    Staged,
}

/// Where the files of a plan lie.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    /// The snapshot's own directory.
    pub snapshot: &'a str,
    /// The directory of all layers.
    pub layers: &'a str,
}

/// The plan of a view.
#[must_use]
pub fn view(lower: &Lower, places: Places<'_>) -> Vec<Mount> {
    let mut mounts = layer_mounts(lower, places);
    match mounts.len() {
        0 => mounts.push(bind(&places.own(UPPER_NAME), "ro")),
        // The mount manager fails on a plan that it mounts to the end and that has a template, so a
        // single layer goes without an overlay.
        1 => {}
        _ => {
            let mut options = vec![lowerdir(0, lower.layers.len())];
            options.extend(lower.overlay_options.iter().filter(|option| !needs_upper(option)).cloned());
            mounts.push(overlay(options));
        }
    }
    mounts
}

/// The plan of an active snapshot.
#[must_use]
pub fn active(lower: &Lower, writable: Writable, places: Places<'_>) -> Vec<Mount> {
    match (writable, lower.layers.is_empty()) {
        (Writable::Staged, _) => view(lower, places),
        (Writable::Extraction, true) => vec![Mount {
            // Never mounted. A differ that is not ours sees a single overlay, writes into its upper
            // directory and converts whiteouts; with a bind it would execute them on an empty
            // directory, and they would be lost in silence.
            fstype: "overlay".to_owned(),
            source: "overlay".to_owned(),
            target: String::new(),
            options: vec![format!("upperdir={}", places.own(UPPER_NAME))],
        }],
        (Writable::Directory, true) => vec![bind(&places.own(UPPER_NAME), "rw")],
        (Writable::Block, true) => {
            let mut bind = bind("{{ mount 0 }}/upper", "rw");
            bind.fstype = "format/bind".to_owned();
            vec![block(places), bind]
        }
        (Writable::Extraction | Writable::Directory, false) => {
            let upper = (places.own(WORK_NAME), places.own(UPPER_NAME));
            let mut mounts = layer_mounts(lower, places);
            mounts.push(writable_overlay(lower, 0, upper));
            mounts
        }
        (Writable::Block, false) => {
            let upper = ("{{ mount 0 }}/work".to_owned(), "{{ mount 0 }}/upper".to_owned());
            let mut mounts = vec![block(places)];
            mounts.extend(layer_mounts(lower, places));
            mounts.push(writable_overlay(lower, 1, upper));
            mounts
        }
    }
}

/// The plan of an active snapshot that had its layer when it was made: containerd 2.4 and later see by a last
/// entry that is read-only that there is nothing to unpack (`core/unpack`). Nobody mounts it.
#[must_use]
pub fn staged(layer: &LayerKey, places: Places<'_>) -> Vec<Mount> {
    vec![layer_mount(layer, places)]
}

impl Places<'_> {
    fn own(&self, name: &str) -> String {
        format!("{}/{name}", self.snapshot)
    }
}

/// Options that the kernel ignores, with a line in its log for each mount, where nothing is writable.
fn needs_upper(option: &str) -> bool {
    matches!(option, "volatile" | "index=on") || option.starts_with("fsync=")
}

fn layer_mounts(lower: &Lower, places: Places<'_>) -> Vec<Mount> {
    let Flavour::Template = lower.flavour;
    lower.layers.iter().map(|key| layer_mount(key, places)).collect()
}

fn layer_mount(key: &LayerKey, places: Places<'_>) -> Mount {
    Mount {
        fstype: "erofs".to_owned(),
        source: format!("{}/{key}/{IMAGE_NAME}", places.layers),
        target: String::new(),
        options: strings(["ro", "loop"]),
    }
}

fn block(places: Places<'_>) -> Mount {
    Mount {
        fstype: "ext4".to_owned(),
        source: places.own(BLOCK_NAME),
        target: String::new(),
        options: strings(["rw", "loop"]),
    }
}

fn bind(source: &str, access: &str) -> Mount {
    Mount {
        fstype: "bind".to_owned(),
        source: source.to_owned(),
        target: String::new(),
        options: strings([access, "rbind"]),
    }
}

/// An overlay over the layers, whose entries start at index `first` of the plan.
fn writable_overlay(lower: &Lower, first: usize, (work, upper): (String, String)) -> Mount {
    let mut options =
        vec![format!("workdir={work}"), format!("upperdir={upper}"), lowerdir(first, lower.layers.len())];
    options.extend(lower.overlay_options.iter().cloned());
    overlay(options)
}

fn overlay(options: Vec<String>) -> Mount {
    Mount {
        fstype: "format/overlay".to_owned(),
        source: "overlay".to_owned(),
        target: String::new(),
        options,
    }
}

/// The template for `count` mounts from index `first` on; `count` is not 0.
fn lowerdir(first: usize, count: usize) -> String {
    match count {
        1 => format!("lowerdir={{{{ mount {first} }}}}"),
        _ => format!("lowerdir={{{{ overlay {first} {} }}}}", first + count.saturating_sub(1)),
    }
}

fn strings<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests;
