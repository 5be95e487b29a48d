//! The merged metadata that is to be served: whether it is of the layers that are named, and what it is checked against.

use std::fs::File;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use super::arguments::Export;
use crate::cli::tool::device::{resolved, size};
use crate::cli::tool::error::Error;
use crate::expose::export::Metadata;
use crate::image::digest::Digest;
use crate::image::erofs::header::{DeviceSlot, Header};
use crate::image::tree::BLOCK_SIZE;
use crate::image::verity::Geometry;
use crate::layer::chain::ChainRecord;
use crate::layer::chain::shelf::RECORD_NAME;
use crate::layer::open::LayerFile;
use crate::layer::verity::Verity;
use crate::store::sidecar;

/// The merged metadata in `path`, of the layers that are named.
pub(super) fn find(path: &Path, asked: &Export) -> Result<Metadata, Error> {
    let path = resolved(path)?;
    check_layers(&path, &asked.layers)?;
    let verity = match asked.root_hash {
        _ if !asked.verify => None,
        Some(root) => Some(tree_over_all(&path, &asked.layers, root)?),
        None => Some(recorded_tree(&path)?),
    };
    Ok(Metadata { path, verity })
}

/// Refuses other layers than those that the metadata points into, or those in another order: files would have the
/// content of others.
fn check_layers(metadata: &Path, layers: &[PathBuf]) -> Result<(), Error> {
    let devices = header(metadata)?.devices;
    if devices.len() != layers.len() {
        return Err(Error::LayersOfMetadata {
            path: metadata.to_owned(),
            merged: devices.len(),
            named: layers.len(),
        });
    }
    for (layer, slot) in layers.iter().zip(&devices) {
        if !is_of(slot, layer)? {
            return Err(Error::LayerOfMetadata { path: metadata.to_owned(), layer: layer.clone() });
        }
    }
    Ok(())
}

/// Whether a device of merged metadata is this layer.
fn is_of(slot: &DeviceSlot, layer: &Path) -> Result<bool, Error> {
    let tag = format!("{:032x}", u128::from_be_bytes(header(layer)?.uuid));
    Ok(slot.tag == tag.as_bytes() && u64::from(slot.blocks) * BLOCK_SIZE == size(layer)?)
}

fn header(path: &Path) -> Result<Header, Error> {
    let file = File::open(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let header = Header::read(&LayerFile::new(file));
    header.map_err(|source| Error::Image { path: path.to_owned(), source })
}

/// The tree with this root hash over metadata and layers.
fn tree_over_all(metadata: &Path, layers: &[PathBuf], root: Digest) -> Result<Verity, Error> {
    let files = std::iter::once(metadata).chain(layers.iter().map(PathBuf::as_path));
    let bytes = files.map(size).sum::<Result<u64, Error>>()?;
    let geometry = NonZeroU64::new(bytes / BLOCK_SIZE).and_then(Geometry::new);
    let geometry = geometry.ok_or_else(|| Error::NoMetadataTree { path: metadata.to_owned() })?;
    // Only who reads the superblock needs its UUID.
    Ok(Verity::of(geometry, root, [0; 16]))
}

/// The tree that the record beside a chain's metadata tells of.
fn recorded_tree(metadata: &Path) -> Result<Verity, Error> {
    let record: Option<ChainRecord> = match sidecar::read(&metadata.with_file_name(RECORD_NAME)) {
        Err(error) if error.is_not_found() => None,
        record => Some(record?),
    };
    let verity = record.and_then(|record| record.verity());
    verity.ok_or_else(|| Error::NoMetadataTree { path: metadata.to_owned() })
}
