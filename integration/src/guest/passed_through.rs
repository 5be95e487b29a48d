//! The whole way of an image into a virtual machine: containerd pulls it through our daemon, a snapshot's files become
//! a guest's disks, and the guest makes its root of them, after it held a signed list against its policy. What it
//! writes is in the snapshot then.
//!
//! `cargo xtask demo --vm` shows it, and a test asserts it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use nexuserofs_guest::descriptor::{Assembly, Descriptor, ImageSource, LayerSource, UpperSource, to_block};
use nexuserofs_guest::devices::Query;
use nexuserofs_guest::manifest::SignedManifest;

use super::disk::Disk;
use super::image_init::{Ended, Guest, Machine};
use super::signer::{Release, Signer};
use super::snapshot::{IMAGE, ImageFiles, Name, Snapshot, UPPER, serial};
use crate::bed::Bed;
use crate::node::{DaemonOptions, Node, NodeOptions, Pull};

/// Size of the block that takes the writes.
const BLOCK: &str = "256MiB";

/// What the image is signed as.
pub const RELEASE: Release<'static> = Release { name: "registry.example/demo", version: 7 };

/// A file that the guest writes, and one of the image's that it removes.
pub const WRITTEN: &str = "srv/app/written";
const REMOVED: &str = "srv/app/kept/empty";
/// The file's content.
pub const TEXT: &str = "a file that the guest wrote\n";
/// What a layer has in the place of a file that is gone.
const WHITEOUT: &str = "srv/app/kept/.wh.empty";

/// How many bytes the files that the guest reads have at least.
const LEAST_BYTES: u64 = 20 << 20;

/// The guest's command: it tells what it sees on the second serial line, writes, and switches itself off when all of it
/// is on the disk.
const COMMAND: &str = "/bin/sh -c \"exec >/dev/ttyS1 2>&1; grep ' / ' /proc/mounts; cat /etc/hostname; \
    echo 'a file that the guest wrote' >/srv/app/written; rm /srv/app/kept/empty; \
    find /usr/bin /srv -type f -exec cat {} + | wc -c; \
    sync; echo GUEST-EXIT 0; echo u >/proc/sysrq-trigger; sleep 1; echo o >/proc/sysrq-trigger; sleep 60\"";

/// How a snapshot is told from others.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// Name of the node's directory.
    pub node: &'a str,
    /// The snapshot.
    pub name: Name<'a>,
    /// The daemon's settings file.
    pub settings: &'a str,
}

/// The setup with one disk for each layer.
pub const SEPARATE: Setup<'static> = Setup {
    node: "layers",
    name: Name { namespace: "demo", snapshotter: crate::node::SNAPSHOTTER, key: "guest" },
    settings: "verity = \"require\"\n",
};

/// The setup with one disk for the image. Plans that merge layers tell of no hash trees, which the guest needs: another
/// profile sees to them.
pub const MERGED: Setup<'static> = Setup {
    node: "merged",
    settings: "[profiles.nexuserofs]\nlayers = \"merged\"\n\n[profiles.nexuserofs-host]\nflavour = \"host\"\nverity = \"auto\"\n",
    ..SEPARATE
};

/// Starts a node whose daemon has pulled the demo image.
///
/// # Errors
/// A part does not come up, or the pull fails.
pub fn pulled(bed: &Bed, setup: Setup<'_>) -> Result<Node> {
    let daemon = DaemonOptions {
        default_size: Some(BLOCK),
        settings: Some(setup.settings.to_owned()),
        ..DaemonOptions::default()
    };
    let options = NodeOptions { daemon: Some(daemon), ..NodeOptions::default() };
    let node = Node::start(&bed.place, setup.node, &options)?;
    let image = node.push(&bed.images.demo)?;
    node.containerd.pull(setup.name.namespace, setup.name.snapshotter, Pull::Transfer, &image)?;
    Ok(node)
}

/// What the guest trusts, and what it need not.
#[derive(Debug)]
pub struct Trust {
    /// The list of the layers, from the image alone.
    pub signed: SignedManifest,
    /// Who may sign what, which is in the guest's initramfs.
    pub policy: String,
}

impl Trust {
    /// Signs the demo image with a new key, which lies in `directory`.
    ///
    /// # Errors
    /// openssl or the tool fails.
    pub fn of_demo_image(bed: &Bed, directory: &Path) -> Result<Self> {
        let signer = Signer::with_new_key(&bed.place, directory)?;
        Ok(Self { signed: signer.sign(&bed.images.demo, RELEASE)?, policy: signer.policy(RELEASE)? })
    }
}

/// Boots a guest with the snapshot's files as its disks.
///
/// # Errors
/// The guest does not end by itself, or QEMU fails.
pub fn boot(machine: &Machine, snapshot: &Snapshot<'_>, trust: &Trust, directory: &Path) -> Result<Ended> {
    let source = |serial: &str| Ok(LayerSource { device: by_serial(serial)?, claim: None });
    let image = match snapshot.image() {
        ImageFiles::Layers(files) => {
            let sources = (0..files.len()).map(|index| source(&serial(index)));
            ImageSource::Layers(sources.collect::<Result<_>>()?)
        }
        ImageFiles::Merged(_) => ImageSource::Merged(source(IMAGE)?),
    };
    let assembly = Assembly { image, upper: UpperSource::Device(by_serial(UPPER)?) };
    let descriptor = Descriptor { signed: trust.signed.clone(), assembly };
    let block = directory.join("descriptor");
    fs::write(&block, to_block(descriptor.to_json()?.as_bytes()))?;
    let disks: Vec<Disk> = snapshot.disks()?.into_iter().chain([Disk::raw("descriptor", block)]).collect();
    let files = [("etc/nexuserofs/policy.json", trust.policy.as_bytes())];
    let parameters = format!("nexuserofs.descriptor=block:serial:descriptor -- {COMMAND}");
    machine.boot(&Guest { disks: &disks, files: &files, parameters: &parameters, directory })
}

fn by_serial(serial: &str) -> Result<Query> {
    Ok(Query::Serial(serial.parse()?))
}

/// Refuses a guest whose program did not run to its end on an overlay of ours.
///
/// # Errors
/// It did not; the error has what it said.
pub fn ensure_ran(ended: &Ended) -> Result<()> {
    ensure!(ended.code == Some(0), "the guest's program did not end well: {ended:?}");
    let is_root = |line: &&String| line.starts_with("nexuserofs / overlay rw,");
    let root = ended.printed.iter().find(is_root);
    root.with_context(|| format!("the guest's root is no overlay of ours: {:?}", ended.printed))?;
    // cat complains of what it cannot read on the same line.
    let read = ended.printed.last().and_then(|bytes| bytes.parse::<u64>().ok());
    ensure!(read >= Some(LEAST_BYTES), "the guest could not read the image: {:?}", ended.printed);
    Ok(())
}

/// The snapshot's difference as names, which has to be what the guest did, and no more.
///
/// # Errors
/// ctr fails, or the difference is another.
pub fn ensure_difference(snapshot: &Snapshot<'_>) -> Result<BTreeSet<String>> {
    let difference = snapshot.difference()?;
    let expected: BTreeSet<String> = [WRITTEN, WHITEOUT].map(str::to_owned).into();
    ensure!(
        difference == expected,
        "the guest wrote {WRITTEN} and removed {REMOVED}, and Compare says {difference:?}"
    );
    Ok(difference)
}
