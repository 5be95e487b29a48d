//! The image of a chain, made of the files of its layers. Their metadata is read, and none of their data.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::error::{Classify, Kind, io_kind};
use crate::image::erofs::InvalidSuperblock;
use crate::image::erofs::read::{self, Limits};
use crate::image::merged::verity::Hashed;
use crate::image::merged::{self, Layer};
use crate::layer::open::{self, LayerFile};
use crate::layer::verity::Verity;

use super::Outcome;

/// The file of a layer that is to be merged.
#[derive(Clone, Debug)]
pub struct Part {
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its dm-verity tree, if it has one.
    pub verity: Option<Verity>,
}

/// A merged image, or why there is none.
#[derive(Debug)]
pub struct Built {
    /// What is to be recorded.
    pub outcome: Outcome,
    /// The image; empty if there is none.
    pub image: Vec<u8>,
    /// The hash tree over image and layers; empty if a layer has none.
    pub tree: Vec<u8>,
}

/// Why it is not known whether layers can be merged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A layer's file cannot be read, or is damaged.
    #[error(transparent)]
    Layer(#[from] open::Error),
    /// The hash tree of a layer cannot be read, or is not the layer's.
    #[error("cannot hash the merged image of {layers} layers")]
    Tree {
        /// How many layers were to be merged.
        layers: usize,
        /// The reason.
        source: merged::verity::Error,
    },
    /// The image could not be kept in memory.
    #[error("cannot make the merged image of {layers} layers: {source}")]
    Write {
        /// How many layers were to be merged.
        layers: usize,
        /// The reason.
        source: std::io::Error,
    },
}

/// The metadata of layers that is too much to be merged.
#[derive(Debug, thiserror::Error)]
#[error("together with the layers below it, it has more {what} than are merged")]
struct TooMuch {
    what: &'static str,
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Layer(error) => error.kind(),
            Self::Tree { source: merged::verity::Error::Read { source, .. }, .. }
            | Self::Write { source, .. } => io_kind(source),
            Self::Tree { .. } => Kind::DataLoss,
        }
    }
}

/// Merges layers, the oldest first.
///
/// # Errors
/// If a layer's file cannot be read or is damaged. Layers that are sound and cannot be merged are no error.
pub fn build(parts: &[Part]) -> Result<Built, Error> {
    build_within(parts, Limits::default())
}

/// Merges layers whose metadata, all of it together, is within `limits`. It is in memory at the same time, and an
/// image can have many layers of which each alone is as large as one may be.
fn build_within(parts: &[Part], limits: Limits) -> Result<Built, Error> {
    let mut left = limits;
    let mut images = Vec::with_capacity(parts.len());
    for part in parts {
        match open::open_within(&part.path, &left) {
            Ok(image) => {
                left = image.left();
                images.push((part, image));
            }
            Err(open::Error::Image { source: read::Error::TooMuch { what, .. }, .. }) => {
                return Ok(unmergeable(&part.path, &TooMuch { what }));
            }
            Err(error) => match refusal(&error) {
                Some(reason) => return Ok(unmergeable(&part.path, reason)),
                None => return Err(error.into()),
            },
        }
    }
    let mut layers = Vec::with_capacity(images.len());
    for (part, image) in &images {
        match Layer::new(image, part.bytes) {
            Ok(layer) => layers.push(layer),
            Err(error) => return Ok(unmergeable(&part.path, &error)),
        }
    }
    let mut image = Vec::new();
    match merged::write(&layers, &mut image) {
        Ok(_) => {
            let hashed = hash(parts, &layers, &image)?;
            let (verity, tree) = hashed.map_or((None, Vec::new()), |(verity, tree)| (Some(verity), tree));
            Ok(Built { outcome: Outcome::Merged { image_bytes: image.len() as u64, verity }, image, tree })
        }
        Err(merged::Error::Image(crate::image::erofs::Error::Write(source))) => {
            Err(Error::Write { layers: parts.len(), source })
        }
        Err(error) => Ok(Built {
            outcome: Outcome::Unmergeable { unmergeable: error.to_string() },
            image: Vec::new(),
            tree: Vec::new(),
        }),
    }
}

/// The hash tree over the merged image and its layers, if all of these have one.
fn hash(parts: &[Part], layers: &[Layer<'_>], image: &[u8]) -> Result<Option<(Verity, Vec<u8>)>, Error> {
    let mut hashed = Vec::with_capacity(parts.len());
    for Part { path, bytes, verity } in parts {
        let Some(verity) = verity else { return Ok(None) };
        let file = File::open(path).map_err(|source| open::Error::Open { path: path.clone(), source })?;
        let file = LayerFile::new(file);
        hashed.push(Hashed { file, bytes: *bytes, geometry: verity.geometry(), root: verity.root() });
    }
    let tree =
        merged::verity::tree(image, &hashed).map_err(|source| Error::Tree { layers: parts.len(), source })?;
    let uuid = merged::verity_uuid(layers);
    let bytes =
        merged::verity::encode(&tree, uuid).map_err(|source| Error::Write { layers: parts.len(), source })?;
    Ok(Some((Verity::new(&tree, uuid), bytes)))
}

/// Why a layer can never be merged, if that is what the error says: it is sound, but of another kind than
/// what a merged image can point into.
fn refusal(error: &open::Error) -> Option<&read::Error> {
    use read::Error::{Superblock, Unsupported};
    match error {
        open::Error::Image { source, .. } => match source {
            Unsupported(_)
            | Superblock(
                InvalidSuperblock::BlockSize(_)
                | InvalidSuperblock::ForeignBlockSize(_)
                | InvalidSuperblock::NoChecksum,
            ) => Some(source),
            _ => None,
        },
        open::Error::Open { .. } => None,
    }
}

fn unmergeable(path: &Path, reason: &dyn std::error::Error) -> Built {
    let unmergeable = format!("{}: {reason}", path.display());
    Built { outcome: Outcome::Unmergeable { unmergeable }, image: Vec::new(), tree: Vec::new() }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::image::digest::Digest;
    use crate::image::erofs::{self, Writer};
    use crate::image::tree::{Directory, Inode, InodeId, Metadata, Node, Tree};

    /// A layer of four inodes.
    fn part(directory: &Path, name: &str) -> Part {
        let inode = |node| Inode { metadata: Metadata { mode: 0o755, ..Metadata::default() }, node };
        let entries = (1..4).map(|id| (format!("{name}{id}").into_bytes(), InodeId(id))).collect();
        let mut inodes = vec![inode(Node::Directory(Directory { entries }))];
        inodes.extend((1..4).map(|_| inode(Node::Fifo)));
        let mut image = Vec::new();
        Writer::new(&mut image).finish(&Tree { inodes }, erofs::uuid(&Digest::of(name.as_bytes()))).unwrap();
        let path = directory.join(name);
        fs::write(&path, &image).unwrap();
        Part { path, bytes: image.len() as u64, verity: None }
    }

    #[test]
    fn layers_are_held_to_the_limits_of_one_together() {
        let directory = tempfile::tempdir().unwrap();
        let parts = ["a", "b", "c"].map(|name| part(directory.path(), name));
        let merged =
            |max_inodes| build_within(&parts, Limits { max_inodes, ..Limits::default() }).unwrap().outcome;
        assert!(matches!(merged(12), Outcome::Merged { .. }));
        let Outcome::Unmergeable { unmergeable } = merged(11) else { panic!("they are merged") };
        assert!(unmergeable.contains("/c: together with the layers below it"), "{unmergeable}");
    }
}
