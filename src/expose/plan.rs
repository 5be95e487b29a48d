//! Mount plans: what containerd mounts for a snapshot.
//!
//! A plan depends only on what was recorded when the snapshot was made, so that it stays the same
//! whatever the daemon's settings become.
//!
//! In the template flavour it holds templates of containerd's mount manager (`core/mount/manager` in
//! containerd): an entry whose type starts with `format/` has `{{ mount 0 }}` replaced by where entry
//! 0 was mounted, and `{{ overlay 0 2 }}` by where entries 0 to 2 were, joined by colons. In the raw
//! flavour it lists the images and the writable block, and a guest joins them. In the host flavour it is
//! one plain mount over what the daemon mounted. In the flavour for vhost-user it names the sockets of disks, which
//! nobody mounts ([`DISK_TYPE`]).
//!
//! Entries are in the order of mounting. Layers stand newest first, which is the order of overlay's
//! `lowerdir`.

mod padding;

use std::collections::BTreeSet;

pub use padding::{MOST_CHECKED, Padding};
use serde::{Deserialize, Serialize};

use super::device::Layout;
use super::export::Role;
use super::host::{MountName, Subject};
use super::idmap::IdMapping;
use super::mount::Mount;
use crate::image::gpt::Style;
use crate::layer::LayerKey;
use crate::layer::chain::{self, ChainKey};
use crate::layer::empty;
use crate::layer::shelf::{IMAGE_NAME, VERITY_NAME};

/// Directory of a snapshot that receives what is written: overlay's upper directory.
pub const UPPER_NAME: &str = "fs";
/// Overlay's work directory beside it.
pub const WORK_NAME: &str = "work";
/// File system in a file that receives what is written. Virtual machine runtimes recognise it by this name.
pub const BLOCK_NAME: &str = "rwlayer.img";

/// Directory on which the daemon mounts such a file where containerd does not.
pub const BLOCK_MOUNT_NAME: &str = "rw";
/// Overlay's upper directory in it.
pub const BLOCK_UPPER_NAME: &str = "rw/upper";
/// Directory in which the daemon mounts the layers with the owners of a user namespace.
pub const SHIFTED_NAME: &str = "lower";

/// Type of an entry that is a disk at a socket. No kernel and no containerd has such a type: whoever mounts it is told so.
pub const DISK_TYPE: &str = "vhost-user-blk";

/// Longest value of a mount option in bytes.
const LONGEST_OPTION: usize = 255;

/// Option of an EROFS entry: the file with the parameters of the layer's dm-verity tree.
const VERITY_OPTION: &str = "X-containerd.dmverity";

/// How the layers are handed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flavour {
    /// One EROFS entry for each layer, and templates that join them: containerd or a runtime mounts them.
    Template,
    /// One EROFS entry for each image, and after them the writable block: a guest gets them as devices, and
    /// joins them as it knows.
    Raw,
    /// Paths of what the daemon mounted. Owners are shifted already, where a mapping says so.
    Host {
        /// The names that the layers are mounted under, one for each and in their order; of merged layers
        /// the one name of their chain.
        names: Vec<MountName>,
    },
    /// Sockets of the disks that a process of ours serves: a virtual machine gets them.
    VhostUser,
}

/// What lies under a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lower {
    /// How the layers are handed out.
    pub flavour: Flavour,
    /// The layers of the parent chain, newest first. Empty without a parent.
    pub layers: Vec<LayerKey>,
    /// The chain that they are merged in, if they are handed out as one image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merged: Option<ChainKey>,
    /// What lies under the layers so that there are as many as whoever mounts them wants.
    #[serde(default, skip_serializing_if = "Padding::is_none")]
    pub padding: Padding,
    /// Those of the layers whose dm-verity trees the plan tells of, so that whoever mounts them checks what is read.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub verity: BTreeSet<LayerKey>,
    /// Options that the operator adds to overlay mounts.
    pub overlay_options: Vec<String>,
    /// The user namespace that the layers' owners are shifted into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapping: Option<IdMapping>,
}

impl Lower {
    /// Whether there is no image to mount, so that the snapshot is its own directory and nothing else.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        self.layers.is_empty() && self.padding.is_none()
    }

    /// What is mounted where the daemon does that: an image for each name.
    #[must_use]
    pub fn subjects(&self) -> Vec<Subject> {
        match &self.merged {
            Some(chain) => vec![Subject::Chain(chain.clone())],
            None => self.layers.iter().cloned().map(Subject::Layer).collect(),
        }
    }
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
    /// A directory that nobody fills: the snapshot had its layer when it was made, and waits for its commit.
    Staged,
}

impl Lower {
    /// How the layers lie on the disk of all of them, where there is one. None without layers.
    #[must_use]
    pub fn disk_layout(&self) -> Option<Layout> {
        match (self.layers.len(), &self.merged) {
            (0, _) => None,
            // A single layer is the file system that merged ones are.
            (1, _) | (_, Some(_)) => Some(Layout::Merged),
            (_, None) => Some(Layout::Partitions(Style::Kata)),
        }
    }
}

/// Where the files of a plan lie.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    /// The snapshot's own directory.
    pub snapshot: &'a str,
    /// The directory of all layers.
    pub layers: &'a str,
    /// The directory of all chains.
    pub chains: &'a str,
    /// The directory of the layers that hold nothing.
    pub empty: &'a str,
    /// The directory in which the daemon mounts layers.
    pub mounts: &'a str,
    /// The directory of the snapshot's exports.
    pub exports: &'a str,
}

/// The plan of a view.
#[must_use]
pub fn view(lower: &Lower, places: Places<'_>) -> Vec<Mount> {
    if let Some(disks) = disks(lower, None, places) {
        return disks;
    }
    if lower.is_bare() {
        return vec![bind("bind", places.own(UPPER_NAME), "ro")];
    }
    let stack = match &lower.flavour {
        Flavour::Raw => return images(lower, places),
        Flavour::Host { names } => match names.len() {
            1 => return vec![bind("bind", stack(lower, 0, places).lowerdir, "ro")],
            _ => stack(lower, 0, places),
        },
        Flavour::Template | Flavour::VhostUser => {
            match (images(lower, places), &lower.mapping, &lower.merged) {
                // The mount manager fails on a plan that it mounts to the end and that has a template, so a
                // single layer goes without an overlay.
                (images, None, None) if images.len() == 1 => return images,
                // What mounts a single entry for itself would do so without its devices, and is told by the
                // second that it cannot.
                (mut images, None, Some(_)) => {
                    images.push(bind("format/bind", "{{ mount 0 }}".to_owned(), "ro"));
                    return images;
                }
                // containerd shifts the owners of no EROFS entry, but of an overlay's layers. Without an upper
                // directory the kernel asks for two: an image on itself is the image.
                (images, Some(_), _) if images.len() == 1 => {
                    template_stack(0, [images.clone(), images].concat())
                }
                (images, ..) => template_stack(0, images),
            }
        }
    };
    let kept = lower.overlay_options.iter().filter(|option| !needs_upper(option));
    let Stack { mut entries, lowerdir } = stack;
    entries.push(overlay(lower, Vec::new(), lowerdir, kept));
    entries
}

/// The plan of an active snapshot.
#[must_use]
pub fn active(lower: &Lower, writable: Writable, places: Places<'_>) -> Vec<Mount> {
    if writable == Writable::Staged {
        return view(lower, places);
    }
    if let Some(disks) = disks(lower, Some(writable), places) {
        return disks;
    }
    if lower.flavour == Flavour::Raw && writable != Writable::Extraction {
        return raw(lower, writable, places);
    }
    let Upper { mut entries, work, upper } = upper(lower, writable, places);
    if !lower.is_bare() {
        let stack = stack(lower, entries.len(), places);
        entries.extend(stack.entries);
        let own = vec![format!("workdir={work}"), format!("upperdir={upper}")];
        entries.push(overlay(lower, own, stack.lowerdir, &lower.overlay_options));
    } else if writable == Writable::Extraction {
        // Never mounted. A differ that is not ours sees a single overlay, writes into its upper
        // directory and converts whiteouts; with a bind it would execute them on an empty
        // directory, and they would be lost in silence.
        entries.push(mount("overlay", "overlay", vec![format!("upperdir={upper}")]));
    } else {
        let fstype = if entries.is_empty() { "bind" } else { "format/bind" };
        entries.push(bind(fstype, upper, "rw"));
    }
    entries
}

/// The images, and the writable block if there is one. Without, a guest writes to its own memory.
fn raw(lower: &Lower, writable: Writable, places: Places<'_>) -> Vec<Mount> {
    let mut entries = images(lower, places);
    if writable == Writable::Block {
        entries.push(block_entry(places));
    }
    entries
}

/// The plan of an active snapshot that had its layer when it was made: containerd 2.4 and later see by a last
/// entry that is read-only that there is nothing to unpack (`core/unpack`). Nobody mounts it.
#[must_use]
pub fn staged(layer: &LayerKey, places: Places<'_>) -> Vec<Mount> {
    vec![layer_entry(layer, false, places)]
}

impl Places<'_> {
    fn own(&self, name: &str) -> String {
        format!("{}/{name}", self.snapshot)
    }

    fn layer(&self, key: &LayerKey) -> String {
        format!("{}/{key}/{IMAGE_NAME}", self.layers)
    }

    fn chain(&self, key: &ChainKey) -> String {
        format!("{}/{key}/{}", self.chains, chain::shelf::IMAGE_NAME)
    }

    /// Whether a mount of these layers as this chain can be asked for: the kernel takes no longer value of
    /// one mount option (`fs/fsopen.c`), whoever mounts.
    #[must_use]
    pub fn fit_options(&self, chain: &ChainKey, layers: &[LayerKey]) -> bool {
        let longest = layers.iter().map(|layer| self.layer(layer).len()).max().unwrap_or(0);
        longest.max(self.chain(chain).len()) <= LONGEST_OPTION
    }
}

/// Layers for an overlay to join.
struct Stack {
    /// What has to be mounted before.
    entries: Vec<Mount>,
    /// The value of the option `lowerdir`.
    lowerdir: String,
}

/// All layers; their entries start at index `first` of the plan.
fn stack(lower: &Lower, first: usize, places: Places<'_>) -> Stack {
    match &lower.flavour {
        // The latter two only for a layer that is extracted, or without a disk: a differ follows templates.
        Flavour::Template | Flavour::Raw | Flavour::VhostUser => template_stack(first, images(lower, places)),
        Flavour::Host { names } => {
            let path = |(index, name): (usize, &MountName)| match lower.mapping {
                None => format!("{}/{name}", places.mounts),
                Some(_) => places.own(&format!("{SHIFTED_NAME}/{index}")),
            };
            let paths: Vec<_> = names.iter().enumerate().map(path).collect();
            Stack { entries: Vec::new(), lowerdir: paths.join(":") }
        }
    }
}

/// What there is to mount, newest first.
fn images(lower: &Lower, places: Places<'_>) -> Vec<Mount> {
    let mut images: Vec<_> = match &lower.merged {
        None => lower.layers.iter().map(|key| layer_entry(key, lower.verity.contains(key), places)).collect(),
        Some(chain) => vec![chain_entry(chain, &lower.layers, places)],
    };
    let Padding { layers, verity } = lower.padding;
    images.extend(empty::names().take(layers.into()).map(|name| image_entry(places.empty, &name, verity)));
    images
}

fn template_stack(first: usize, entries: Vec<Mount>) -> Stack {
    let last = first + entries.len().saturating_sub(1);
    let lowerdir = match entries.len() {
        1 => format!("{{{{ mount {first} }}}}"),
        _ => format!("{{{{ overlay {first} {last} }}}}"),
    };
    Stack { entries, lowerdir }
}

/// What receives an overlay's changes.
struct Upper {
    /// What has to be mounted before.
    entries: Vec<Mount>,
    work: String,
    upper: String,
}

fn upper(lower: &Lower, writable: Writable, places: Places<'_>) -> Upper {
    let within = |directory: &str, entries| Upper {
        entries,
        work: format!("{directory}/work"),
        upper: format!("{directory}/upper"),
    };
    match (writable, &lower.flavour) {
        (Writable::Extraction | Writable::Directory | Writable::Staged, _) => {
            Upper { entries: Vec::new(), work: places.own(WORK_NAME), upper: places.own(UPPER_NAME) }
        }
        (Writable::Block, Flavour::Host { .. }) => within(&places.own(BLOCK_MOUNT_NAME), Vec::new()),
        (Writable::Block, Flavour::Template | Flavour::Raw | Flavour::VhostUser) => {
            within("{{ mount 0 }}", vec![block_entry(places)])
        }
    }
}

/// The writable block.
fn block_entry(places: Places<'_>) -> Mount {
    mount("ext4", &places.own(BLOCK_NAME), strings(["rw", "loop"]))
}

/// Options that the kernel ignores, with a line in its log for each mount, where nothing is writable.
fn needs_upper(option: &str) -> bool {
    matches!(option, "volatile" | "index=on") || option.starts_with("fsync=")
}

/// An overlay with its upper directory's options first, then those of the layers and the operator's.
fn overlay<'a>(
    lower: &Lower,
    mut options: Vec<String>,
    lowerdir: String,
    added: impl IntoIterator<Item = &'a String>,
) -> Mount {
    let fstype = match (&lower.flavour, &lower.mapping) {
        (Flavour::Host { .. }, _) => "overlay",
        (Flavour::Template | Flavour::Raw | Flavour::VhostUser, None) => "format/overlay",
        (Flavour::Template | Flavour::Raw | Flavour::VhostUser, Some(IdMapping { uids, gids })) => {
            options.extend([format!("uidmap={uids}"), format!("gidmap={gids}")]);
            "format/overlay"
        }
    };
    options.push(format!("lowerdir={lowerdir}"));
    options.extend(added.into_iter().cloned());
    mount(fstype, "overlay", options)
}

/// The disks of the flavour for vhost-user: the image, and behind it the writable block, if there are such. None in
/// other flavours, for layers that are extracted, and without any disk.
fn disks(lower: &Lower, writable: Option<Writable>, places: Places<'_>) -> Option<Vec<Mount>> {
    if lower.flavour != Flavour::VhostUser {
        return None;
    }
    let disk = |role: Role, options: Vec<String>| {
        let options = options.into_iter().chain([format!("serial={}", role.serial())]).collect();
        mount(DISK_TYPE, &format!("{}/{}", places.exports, role.socket_name()), options)
    };
    let image = lower.disk_layout().map(|layout| {
        let layout = if layout == Layout::Merged { "layout=merged" } else { "layout=partitions" };
        disk(Role::Image, strings(["ro", layout]))
    });
    let block = strings(["rw", "fstype=ext4", "upperdir=upper", "workdir=work"]);
    let writable = (writable == Some(Writable::Block)).then(|| disk(Role::Writable, block));
    let disks: Vec<Mount> = image.into_iter().chain(writable).collect();
    (!disks.is_empty()).then_some(disks)
}

/// A layer, and where it has to be checked, the file that says how (containerd's erofs mount handler).
fn layer_entry(key: &LayerKey, has_verity: bool, places: Places<'_>) -> Mount {
    image_entry(places.layers, key.as_str(), has_verity)
}

/// The image in the directory `name` of `place`.
fn image_entry(place: &str, name: &str, has_verity: bool) -> Mount {
    let verity = has_verity.then(|| format!("{VERITY_OPTION}={place}/{name}/{VERITY_NAME}"));
    let options = strings(["ro", "loop"]).into_iter().chain(verity).collect();
    mount("erofs", &format!("{place}/{name}/{IMAGE_NAME}"), options)
}

/// Merged layers: one image with the layers' files as devices, the oldest first as in its device table.
fn chain_entry(key: &ChainKey, layers: &[LayerKey], places: Places<'_>) -> Mount {
    let mut options = strings(["ro", "loop"]);
    options.extend(layers.iter().rev().map(|layer| format!("device={}", places.layer(layer))));
    mount("erofs", &places.chain(key), options)
}

fn bind(fstype: &str, source: String, access: &str) -> Mount {
    mount(fstype, &source, strings([access, "rbind"]))
}

fn mount(fstype: &str, source: &str, options: Vec<String>) -> Mount {
    Mount { fstype: fstype.to_owned(), source: source.to_owned(), target: String::new(), options }
}

fn strings<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests;
