//! Why a layer has no dm-verity tree where the profile requires one.

use std::fs::File;

use super::Error;
use crate::image::erofs::header::Header;
use crate::image::tree::BLOCK_SIZE;
use crate::layer::open::LayerFile;
use crate::layer::{LayerKey, Shelf};

/// The refusal for a layer without a tree. A tree covers blocks of 4096 bytes: what has smaller ones gets none
/// however often it is pulled, so its image itself is asked.
pub(super) fn refusal(shelf: &Shelf, layer: &LayerKey) -> Error {
    let file = File::open(shelf.image(layer)).ok().map(LayerFile::new);
    let header = file.and_then(|file| Header::read(&file).ok());
    match header.map(|header| header.block_size).filter(|size| u64::from(*size) < BLOCK_SIZE) {
        Some(block_size) => Error::BlocksTooSmall { layer: layer.clone(), block_size },
        None => Error::NoVerity { layer: layer.clone() },
    }
}
