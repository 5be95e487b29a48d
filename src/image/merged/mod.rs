//! One image of metadata for several layers: what overlayfs would show of them, with the data of its files
//! left where it is, in the layers' own images.
//!
//! The bytes are a pure function of the layers: of the metadata in their images, their UUIDs, and the sizes
//! of their files. `docs/merged-image.md` is the specification.
//!
//! * [`verity`]: one hash tree over all of it.

pub mod verity;

use std::io;

use crate::image::erofs::read::{Image, ReadAt};
use crate::image::erofs::{self, Device, ImageSink, Summary};
use crate::image::identity;
use crate::image::overlay::{self, Flat, Place};
use crate::image::tree::{BLOCK_SIZE, FileData, InodeId, Node, Tree};

/// Version of the merging. Any change of the bytes of any merged image is a new version.
pub const VERSION: u32 = 1;

/// A layer that a merged image points into.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'l> {
    tree: &'l Tree,
    device: Device,
}

/// Why layers cannot be merged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file of a layer cannot be a device of whole blocks.
    #[error("its file has {bytes} bytes: not a number of blocks of 4096 bytes that an EROFS device can have")]
    FileSize {
        /// Its size in bytes.
        bytes: u64,
    },
    /// The file is shorter than the image in it.
    #[error("its image has {image} bytes and its file {bytes}")]
    Truncated {
        /// Size of the file in bytes.
        bytes: u64,
        /// Size of the image in bytes.
        image: u64,
    },
    /// The ends of files are among the layer's metadata, where nothing else can point to them.
    #[error("it has data of files behind their inodes: make it with mkfs.erofs -Enoinline_data")]
    Tails,
    /// The layers do not belong together.
    #[error(transparent)]
    Layers(#[from] overlay::Error),
    /// The result is no EROFS image, or could not be written.
    #[error(transparent)]
    Image(#[from] erofs::Error),
}

impl Error {
    /// What writing failed with, if it was that. Every other error is one of the layers themselves, which
    /// no other attempt changes.
    #[must_use]
    pub const fn write_failure(&self) -> Option<&io::Error> {
        match self {
            Self::Image(erofs::Error::Write(error)) => Some(error),
            _ => None,
        }
    }
}

impl<'l> Layer<'l> {
    /// The layer whose file, of so many bytes, starts with `image`.
    ///
    /// # Errors
    /// If nothing can point into it.
    pub fn new<S: ReadAt>(image: &'l Image<S>, bytes: u64) -> Result<Self, Error> {
        let superblock = image.superblock();
        if superblock.image_size() > bytes {
            return Err(Error::Truncated { bytes, image: superblock.image_size() });
        }
        let blocks = u32::try_from(bytes / BLOCK_SIZE).ok().filter(|_| bytes.is_multiple_of(BLOCK_SIZE));
        let blocks = blocks.ok_or(Error::FileSize { bytes })?;
        if image.has_tails() {
            return Err(Error::Tails);
        }
        Ok(Self { tree: image.tree(), device: Device { uuid: superblock.uuid, blocks } })
    }
}

/// Writes the merged image of `layers`, the oldest first, to `sink`. In its device table they have the same
/// order.
///
/// # Errors
/// If the layers cannot be merged, or the sink fails.
pub fn write<S: ImageSink>(layers: &[Layer<'_>], sink: S) -> Result<Summary, Error> {
    let devices: Vec<Device> = layers.iter().map(|layer| layer.device).collect();
    // Overlayfs counts from the top, the device table from the bottom.
    let trees: Vec<&Tree> = layers.iter().rev().map(|layer| layer.tree).collect();
    let Flat { mut tree, origins } = overlay::flatten(&trees)?;
    let mut numbers = vec![0; tree.inodes.len()];
    for ((inode, origin), number) in tree.inodes.iter_mut().zip(&origins).zip(&mut numbers) {
        if let (Node::Regular(data), &Some(Place { layer, inode })) = (&mut inode.node, origin) {
            take_extents(data, &trees, layer, inode);
            // Devices beyond 16 bits are refused before any number is looked at.
            *number = if data.extents.is_empty() { 0 } else { (layers.len() - layer) as u16 };
        }
    }
    Ok(erofs::write_metadata(sink, &tree, &devices, &numbers, uuid(&devices))?)
}

/// Points a file at the blocks that it has in its layer.
fn take_extents(data: &mut FileData, trees: &[&Tree], layer: usize, inode: InodeId) {
    let source = trees.get(layer).map(|tree| &tree.inode(inode).node);
    if let Some(Node::Regular(source)) = source {
        data.extents.clone_from(&source.extents);
    }
}

/// The UUID of a merged image: a version 5 UUID (RFC 9562) in the URL name space, of
/// `urn:nexuserofs:merged:v1` and, for each layer from the oldest on, `:`, the 32 hex digits of its UUID,
/// `/` and the size of its file in blocks.
fn uuid(devices: &[Device]) -> [u8; 16] {
    named_uuid("merged", devices)
}

/// The UUID in the superblock of the hash tree over the merged image of these layers, the oldest first: as
/// that of the image, with `merged-verity` in place of `merged`.
#[must_use]
pub fn verity_uuid(layers: &[Layer<'_>]) -> [u8; 16] {
    let devices: Vec<Device> = layers.iter().map(|layer| layer.device).collect();
    named_uuid("merged-verity", &devices)
}

fn named_uuid(what: &str, devices: &[Device]) -> [u8; 16] {
    let mut name = format!("{what}:v{VERSION}");
    for Device { uuid, blocks } in devices {
        name.push_str(&format!(":{:032x}/{blocks}", u128::from_be_bytes(*uuid)));
    }
    identity::uuid(&name).into_bytes()
}
