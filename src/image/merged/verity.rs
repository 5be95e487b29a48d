//! One dm-verity tree over a merged image and all data that it points to.
//!
//! The tree is over the one device that has the merged image and behind it the files of the layers, and it
//! follows them there. The form is that of [`crate::image::verity`]. Salt and block size are the same for all,
//! so the lowest level of a layer's own tree is a run of this one's: no data is read, only metadata and the
//! layers' trees are hashed.

use std::io::{self, Read};

use crate::image::digest::Digest;
use crate::image::erofs::ImageSink;
use crate::image::erofs::read::ReadAt;
use crate::image::tree::BLOCK_SIZE;
use crate::image::verity::leaves;
use crate::image::verity::{Geometry, Leaves, Tree};

/// Size of a digest in bytes.
const DIGEST_SIZE: usize = 32;

/// The file of a layer with a tree of its own.
#[derive(Clone, Copy, Debug)]
pub struct Hashed<S> {
    /// The file.
    pub file: S,
    /// Its size in bytes.
    pub bytes: u64,
    /// Where its tree lies.
    pub geometry: Geometry,
    /// The root hash of that.
    pub root: Digest,
}

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A layer's file could not be read.
    #[error("cannot read layer {layer} of the image, counted from 0, at byte {offset}")]
    Read {
        /// Which layer, the oldest being 0.
        layer: usize,
        /// Where, in bytes from its start.
        offset: u64,
        /// What the read failed with.
        source: io::Error,
    },
    /// The tree in a layer's file is not the one with the layer's root hash.
    #[error(
        "the hash tree of layer {layer} of the image, counted from 0, is damaged: its root is {found}, not {expected}"
    )]
    Root {
        /// Which layer, the oldest being 0.
        layer: usize,
        /// The root of the tree that is there.
        found: Digest,
        /// The root of the layer.
        expected: Digest,
    },
    /// The blocks cannot be hashed.
    #[error(transparent)]
    Leaves(#[from] leaves::Error),
}

/// The tree over `merged`, which is whole blocks, and the files of its layers behind it, the oldest first.
///
/// # Errors
/// If a file cannot be read, or its own tree is not that of its root hash.
pub fn tree<S: ReadAt>(merged: &[u8], layers: &[Hashed<S>]) -> Result<Tree, Error> {
    let mut all = Leaves::of(&mut &*merged)?.digests().to_vec();
    for (layer, hashed) in layers.iter().enumerate() {
        let read = |offset| move |source| Error::Read { layer, offset, source };
        let (data, root) = data_leaves(hashed).map_err(read(hashed.geometry.hash_offset()))??;
        if root != hashed.root {
            return Err(Error::Root { layer, found: root, expected: hashed.root });
        }
        all.extend(data);
        let start = hashed.geometry.hash_offset();
        let mut rest = Rest { file: &hashed.file, position: start, end: hashed.bytes };
        all.extend(Leaves::of(&mut rest)?.digests());
    }
    let blocks = all.len() as u64;
    Ok(Leaves::from_digests(all).into_tree(blocks)?)
}

/// Digests by block.
type Digests = Vec<[u8; DIGEST_SIZE]>;

/// The leaves that a layer's own tree has, and the root that they give.
fn data_leaves<S: ReadAt>(hashed: &Hashed<S>) -> io::Result<Result<(Digests, Digest), Error>> {
    let blocks = hashed.geometry.data_blocks().get();
    let mut digests = match hashed.geometry.levels().first() {
        // The root hash is the digest of the only block.
        None => vec![*hashed.root.as_bytes()],
        Some(level) => {
            let bytes = usize::try_from(level.blocks * BLOCK_SIZE).map_err(io::Error::other)?;
            let mut stored = vec![0; bytes];
            hashed.file.read_exact_at(level.offset, &mut stored)?;
            stored.as_chunks::<DIGEST_SIZE>().0.to_vec()
        }
    };
    digests.truncate(usize::try_from(blocks).map_err(io::Error::other)?);
    let root = Leaves::from_digests(digests.clone()).into_tree(blocks).map(|tree| tree.root());
    Ok(root.map(|root| (digests, root)).map_err(Error::from))
}

/// What a file has from a position on.
struct Rest<'f, S> {
    file: &'f S,
    position: u64,
    end: u64,
}

impl<S: ReadAt> Read for Rest<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.end.saturating_sub(self.position);
        let length = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let (part, _) = buffer.split_at_mut(length);
        self.file.read_exact_at(self.position, part)?;
        self.position += length as u64;
        Ok(length)
    }
}

/// The bytes of the tree alone, superblock first: what follows the layers on the device.
///
/// # Errors
/// If memory does not hold them.
pub fn encode(tree: &Tree, uuid: [u8; 16]) -> io::Result<Vec<u8>> {
    let mut behind = Behind { start: tree.geometry().hash_offset(), bytes: Vec::new() };
    tree.write(uuid, &mut behind)?;
    Ok(behind.bytes)
}

/// A device from a position on.
struct Behind {
    start: u64,
    bytes: Vec<u8>,
}

impl ImageSink for Behind {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let offset = offset.checked_sub(self.start).ok_or(io::ErrorKind::InvalidInput)?;
        self.bytes.write_at(offset, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of so many blocks and the tree over them.
    fn layer(blocks: usize, seed: u8) -> (Vec<u8>, Tree) {
        let mut file: Vec<u8> = (0..blocks * 4096).map(|i| (i / 7 % 251) as u8 ^ seed).collect();
        let tree = Leaves::of(&mut file.as_slice()).unwrap().into_tree(blocks as u64).unwrap();
        tree.write([seed; 16], &mut file).unwrap();
        (file, tree)
    }

    fn hashed((file, tree): &(Vec<u8>, Tree)) -> Hashed<&[u8]> {
        Hashed { file, bytes: file.len() as u64, geometry: tree.geometry(), root: tree.root() }
    }

    #[test]
    fn the_tree_is_the_one_over_all_bytes() {
        let merged = vec![5; 3 * 4096];
        let layers = [layer(1, 1), layer(2, 2), layer(129, 3), layer(128, 4)];
        let tree = tree(&merged, &layers.each_ref().map(hashed)).unwrap();
        let mut device = merged;
        layers.iter().for_each(|(file, _)| device.extend_from_slice(file));
        let blocks = device.len() as u64 / 4096;
        assert_eq!(tree, Leaves::of(&mut device.as_slice()).unwrap().into_tree(blocks).unwrap());
        device.extend(encode(&tree, [9; 16]).unwrap());
        let mut whole = device[..blocks as usize * 4096].to_vec();
        tree.write([9; 16], &mut whole).unwrap();
        assert!(device == whole, "the tree follows the layers");
    }

    #[test]
    fn a_damaged_tree_of_a_layer_is_found() {
        let mut damaged = layer(300, 1);
        let leaves = damaged.1.geometry().levels()[0].offset as usize;
        damaged.0[leaves + 40] ^= 1;
        let layers = [layer(2, 2), damaged];
        let error = tree(&[0; 4096], &layers.each_ref().map(hashed)).unwrap_err();
        assert!(matches!(error, Error::Root { layer: 1, .. }), "{error}");
        let short = Hashed { file: &layers[0].0[..4096], ..hashed(&layers[0]) };
        let error = tree(&[0; 4096], &[short]).unwrap_err();
        assert!(matches!(error, Error::Read { layer: 0, .. }), "{error}");
    }
}
