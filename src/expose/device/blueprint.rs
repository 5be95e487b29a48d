//! What lies where on a device, and in which files.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Chain, Error, Layout};
use crate::image::extent::{ExtentMap, SECTOR};
use crate::image::gpt::{Disk, Layer};
use crate::image::tree::BLOCK_SIZE;
use crate::layer;
use crate::layer::chain::shelf;
use crate::store;

/// A device before it has any form.
#[derive(Debug)]
pub(super) struct Blueprint {
    /// What lies where.
    pub(super) map: ExtentMap,
    /// The files that the map names, by number.
    pub(super) files: Vec<Source>,
}

/// A file that a device is made of.
#[derive(Debug)]
pub(super) struct Source {
    /// Where it can be read now.
    pub(super) readable: PathBuf,
    /// Where it will be when the device is used.
    pub(super) place: PathBuf,
}

impl Blueprint {
    /// The device of a chain.
    pub(super) fn of(layout: Layout, chain: Chain<'_>) -> Result<Self, Error> {
        match layout {
            Layout::Merged => merged(chain, None),
            Layout::Verified => {
                let metadata = chain.metadata.ok_or(Error::NotMerged { layers: chain.layers.len() })?;
                let tree = Source {
                    readable: metadata.with_file_name(shelf::TREE_NAME),
                    place: chain.home.join(shelf::TREE_NAME),
                };
                merged(chain, Some(tree))
            }
            Layout::Partitions(style) => {
                let files: Vec<Source> =
                    chain.layers.iter().rev().map(|path| Source::in_place(path)).collect();
                let layers = files.iter().map(partition).collect::<Result<Vec<_>, _>>()?;
                Ok(Self { map: Disk::new(style, &layers)?.extents()?, files })
            }
        }
    }
}

impl Source {
    fn in_place(path: &Path) -> Self {
        Self { readable: path.to_owned(), place: path.to_owned() }
    }
}

/// The metadata, the layers, and the tree over them if it is to be there.
fn merged(chain: Chain<'_>, tree: Option<Source>) -> Result<Blueprint, Error> {
    if chain.metadata.is_none() && chain.layers.len() != 1 {
        return Err(Error::NotMerged { layers: chain.layers.len() });
    }
    let metadata = chain
        .metadata
        .map(|now| Source { readable: now.to_owned(), place: chain.home.join(shelf::IMAGE_NAME) });
    let layers = chain.layers.iter().map(|path| Source::in_place(path));
    let files: Vec<Source> = metadata.into_iter().chain(layers).chain(tree).collect();
    let mut map = ExtentMap::new();
    for (number, file) in files.iter().enumerate() {
        // The metadata counts whole blocks of each layer.
        map.push_file(number, 0, size(&file.readable, BLOCK_SIZE)?)?;
    }
    Ok(Blueprint { map, files })
}

fn partition(file: &Source) -> Result<Layer, Error> {
    Ok(Layer { identity: identity(&file.place), bytes: size(&file.readable, SECTOR)? })
}

/// What a layer is known by: the name of its directory, as for Kata, or its own if that says more.
fn identity(layer: &Path) -> String {
    let is_named_alike = layer.file_name().is_some_and(|name| name == layer::shelf::IMAGE_NAME);
    let name = if is_named_alike { layer.parent().and_then(Path::file_name) } else { layer.file_stem() };
    name.map_or_else(|| "unknown".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Size of a file in bytes, which is a multiple of `unit`.
fn size(path: &Path, unit: u64) -> Result<u64, Error> {
    let found = fs::symlink_metadata(path).map_err(store::Error::io("look at", path))?;
    if !found.is_file() {
        return Err(Error::NotAFile { path: path.to_owned() });
    }
    let bytes = found.len();
    if bytes == 0 || !bytes.is_multiple_of(unit) {
        return Err(Error::Size { path: path.to_owned(), bytes, unit });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_known_by_what_tells_them_apart() {
        for (path, known) in [
            ("/root/layers/v1-00/layer.erofs", "v1-00"),
            ("/cache/sha256-00.erofs", "sha256-00"),
            ("/layer.erofs", "unknown"),
        ] {
            assert_eq!(identity(Path::new(path)), known);
        }
    }
}
