//! A snapshot of containerd's as the disks of a guest, and what the guest left in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nexuserofs_proto::containerd::types::Mount;

use super::disk::Disk;
use crate::command::Run;
use crate::images::Image;
use crate::node::Containerd;

/// The serial number of the disk that takes the writes.
pub const UPPER: &str = "upper";

/// The serial number of the disk with the whole image.
pub const IMAGE: &str = "image";

/// The file beside merged metadata that has metadata, layers and hash tree as one disk.
const VERIFIED: &str = "verified.vmdk";

/// Type of the difference that is asked for.
const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// Where a snapshot belongs.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a> {
    /// containerd's namespace.
    pub namespace: &'a str,
    /// The snapshotter.
    pub snapshotter: &'a str,
    /// The key.
    pub key: &'a str,
}

/// The files of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageFiles {
    /// One for each layer, oldest first.
    Layers(Vec<PathBuf>),
    /// A VMDK of merged metadata, all layers, and one hash tree over them.
    Merged(PathBuf),
}

/// An active snapshot on an unpacked image, in block mode: EROFS files, and an ext4 for the writes.
#[derive(Debug)]
pub struct Snapshot<'a> {
    containerd: &'a Containerd,
    name: Name<'a>,
    /// What the snapshotter says it is made of.
    pub mounts: Vec<Mount>,
}

/// The serial number of the disk with layer `index`, counted from the oldest.
#[must_use]
pub fn serial(index: usize) -> String {
    format!("l{index}")
}

impl<'a> Snapshot<'a> {
    /// Has containerd prepare a snapshot on an image that it has unpacked.
    ///
    /// # Errors
    /// ctr fails.
    pub fn prepare(containerd: &'a Containerd, name: Name<'a>, image: &Image) -> Result<Self> {
        snapshots(containerd, name).args(["prepare", name.key, &image.chain_id()?]).run()?;
        let mounts = containerd.connect(name.namespace)?.mounts(name.snapshotter, name.key)?;
        Ok(Self { containerd, name, mounts })
    }

    /// The files of the image.
    #[must_use]
    pub fn image(&self) -> ImageFiles {
        let newest_first: Vec<&Mount> = self.mounts.iter().filter(|mount| mount.r#type == "erofs").collect();
        match newest_first.as_slice() {
            [one] if one.options.iter().any(|option| option.starts_with("device=")) => {
                ImageFiles::Merged(Path::new(&one.source).with_file_name(VERIFIED))
            }
            all => ImageFiles::Layers(all.iter().rev().map(|mount| PathBuf::from(&mount.source)).collect()),
        }
    }

    /// The file that takes the writes.
    ///
    /// # Errors
    /// The snapshot is not in block mode.
    pub fn block(&self) -> Result<&Path> {
        let block = self.mounts.iter().find(|mount| mount.r#type.ends_with("ext4"));
        Ok(Path::new(&block.context("the snapshot has no writable block")?.source))
    }

    /// A disk for each layer, oldest first, or one for the image; and the one that takes the writes.
    ///
    /// # Errors
    /// The snapshot is not in block mode.
    pub fn disks(&self) -> Result<Vec<Disk>> {
        let mut disks: Vec<Disk> = match self.image() {
            ImageFiles::Layers(files) => {
                files.into_iter().enumerate().map(|(index, file)| Disk::raw(serial(index), file)).collect()
            }
            ImageFiles::Merged(file) => vec![Disk::of("vmdk", IMAGE, file)],
        };
        disks.push(Disk::raw(UPPER, self.block()?).writable());
        Ok(disks)
    }

    /// A file in the upper directory of the block, which is not mounted for that.
    ///
    /// # Errors
    /// debugfs fails, or there is no such file.
    pub fn written(&self, path: &str) -> Result<String> {
        let cat = format!("cat /upper/{path}");
        let (file, said) = Run::new("debugfs").args(["-R", &cat]).arg(self.block()?).both()?;
        ensure!(!said.contains("not found"), "the block has no /upper/{path}: {said}");
        Ok(file)
    }

    /// The names in the layer that containerd, that is our differ, makes of the snapshot. Without directories: those
    /// are there as ways to what lies in them.
    ///
    /// # Errors
    /// ctr fails, or its tar cannot be read.
    pub fn difference(&self) -> Result<BTreeSet<String>> {
        let tar = self.snapshots().args(["diff", "--media-type", TAR, self.name.key]).bytes()?;
        let file = tempfile::NamedTempFile::new()?;
        fs::write(file.path(), tar)?;
        let list = Run::new("tar").args(["--list", "--file"]).arg(file.path()).output()?;
        Ok(list.lines().filter(|name| !name.ends_with('/')).map(str::to_owned).collect())
    }

    /// Has containerd remove the snapshot.
    ///
    /// # Errors
    /// ctr fails.
    pub fn remove(self) -> Result<()> {
        self.snapshots().args(["remove", self.name.key]).run()
    }

    fn snapshots(&self) -> Run {
        snapshots(self.containerd, self.name)
    }
}

fn snapshots(containerd: &Containerd, name: Name<'_>) -> Run {
    containerd.ctr(name.namespace).args(["snapshots", "--snapshotter", name.snapshotter])
}
