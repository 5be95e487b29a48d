//! The files of an image's layers, merged into one image.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use nexuserofs::layer::Verity;
use nexuserofs::layer::chain::shelf::TREE_NAME;
use nexuserofs::layer::chain::{self, Built, Part};

/// Writes the merged metadata of layers, oldest first, and beside it the tree over all of it, if each layer has one.
pub(crate) fn merge(
    metadata: &Path,
    layers: impl IntoIterator<Item = (PathBuf, Option<Verity>)>,
) -> Result<Built> {
    let part = |(path, verity): (PathBuf, _)| {
        let bytes = fs::metadata(&path)?.len();
        Ok(Part { path, bytes, verity })
    };
    let built = chain::build(&layers.into_iter().map(part).collect::<Result<Vec<_>>>()?)?;
    ensure!(!built.image.is_empty(), "the layers cannot be merged: {:?}", built.outcome);
    fs::write(metadata, &built.image)?;
    if !built.tree.is_empty() {
        fs::write(metadata.with_file_name(TREE_NAME), &built.tree)?;
    }
    Ok(built)
}
