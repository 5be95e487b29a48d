//! The manifest of an image, from the image alone.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use nexuserofs_guest::manifest::{self, Manifest};
use nexuserofs_guest::word::{InvalidWord, Word};

use super::arguments::Compute;
use crate::cli::tool::error::Error;
use crate::cli::tool::oci::{Image, Layout, Platform, Selection};
use crate::cli::tool::output::{Draft, Output};
use crate::cli::tool::progress::Progress;
use crate::cli::tool::report::Console;
use crate::cli::tool::source::{self, Blob};
use crate::diff::offline;
use crate::layer::chain::{self, Part};
use crate::layer::{HashTree, LayerRecord};
use crate::trust;

/// What a manifest is made of.
struct Parts {
    blobs: Vec<Blob>,
    image: Option<manifest::Image>,
    platform: manifest::Platform,
}

/// A layer that was built. Its file is deleted with it.
struct Built {
    record: LayerRecord,
    file: Draft,
}

/// Builds all layers, one after the other, and lists them.
pub(super) fn compute(asked: &Compute, console: Console) -> Result<Manifest, Error> {
    let Parts { blobs, image, platform } = parts(asked)?;
    let scratch = Output::create(&std::env::temp_dir(), false)?;
    let progress = Progress::of_bytes(blobs.iter().map(Blob::length).sum(), console);
    let is_merged = asked.merged && blobs.len() > 1;
    let mut records = Vec::with_capacity(blobs.len());
    let mut parts = Vec::new();
    let mut files = Vec::new();
    for blob in &blobs {
        let Built { record, file } = build(blob, &scratch, &progress)?;
        // Merging reads all of them; otherwise each is deleted before the next is built.
        if is_merged {
            parts.push(part(&record, &file));
            files.push(file);
        }
        records.push(record);
    }
    let manifest = trust::list(&records, image, platform)?;
    match is_merged {
        true => Ok(trust::merged(&manifest, &chain::build(&parts)?.outcome)?),
        false => Ok(manifest),
    }
}

fn build(blob: &Blob, scratch: &Output, progress: &Progress) -> Result<Built, Error> {
    progress.name(&blob.name());
    let file = scratch.draft()?;
    let mut bytes: Box<dyn Read + Send> = Box::new(progress.count(blob.open()?.bytes));
    let converted = offline::convert(&mut bytes, file.path(), HashTree::With)
        .map_err(|source| Error::Layer { path: blob.name(), source })?;
    blob.check(&converted)?;
    Ok(Built { record: converted.record, file })
}

fn part(record: &LayerRecord, file: &Draft) -> Part {
    Part { path: file.path().to_owned(), bytes: record.image_bytes, verity: record.verity }
}

fn parts(asked: &Compute) -> Result<Parts, Error> {
    if let [path] = asked.sources.as_slice()
        && path != Path::new("-")
        && let Some(layout) = Layout::find(path)?
    {
        return of_layout(asked, path, layout);
    }
    let platform = asked.platform.as_ref().ok_or(Error::TarsNeedPlatform)?;
    Ok(Parts {
        blobs: asked.sources.iter().map(|path| source::layer(path)).collect(),
        image: None,
        platform: words(platform)?,
    })
}

fn of_layout(asked: &Compute, path: &Path, layout: Layout) -> Result<Parts, Error> {
    let selection = Selection { name: asked.image.clone(), platform: asked.platform.clone() };
    let mut images = Image::all(&layout, &selection)?;
    // An image that the layout has under two names is one.
    images.dedup_by_key(|image| image.manifest);
    let count = images.len();
    let Some(image) = images.pop().filter(|_| count == 1) else {
        return Err(Error::NotOneImage { path: path.to_owned(), count });
    };
    if let Some(layer) = image.layers.iter().find(|layer| !layer.blob.is_tar()) {
        return Err(Error::NoTar { path: layout.blob_name(&layer.blob.digest) });
    }
    let layout = Arc::new(layout);
    let blob = |layer| Blob::Layer { layout: Arc::clone(&layout), layer: Box::new(layer) };
    Ok(Parts {
        platform: words(&image.platform)?,
        image: Some(manifest::Image { manifest: image.manifest, config: image.config }),
        blobs: image.layers.into_iter().map(blob).collect(),
    })
}

fn words(platform: &Platform) -> Result<manifest::Platform, InvalidWord> {
    let variant = platform.variant.as_ref().filter(|variant| !variant.is_empty());
    Ok(manifest::Platform {
        os: platform.os.parse()?,
        architecture: platform.architecture.parse()?,
        variant: variant.map(|variant| variant.parse::<Word>()).transpose()?,
    })
}
