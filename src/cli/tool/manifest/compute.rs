//! The manifest of an image, from the image alone.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use nexuserofs_guest::manifest::{self, Manifest};
use nexuserofs_guest::word::{InvalidWord, Word};

use super::arguments::Compute;
use crate::cli::tool::error::Error;
use crate::cli::tool::oci::{Image, Layout, Platform, Selection};
use crate::cli::tool::output::Output;
use crate::cli::tool::progress::Progress;
use crate::cli::tool::report::Console;
use crate::cli::tool::source::{self, Blob};
use crate::diff::offline;
use crate::layer::{HashTree, LayerRecord};
use crate::trust;

/// What a manifest is made of.
struct Parts {
    blobs: Vec<Blob>,
    image: Option<manifest::Image>,
    platform: manifest::Platform,
}

/// Builds all layers, one after the other, and lists them.
pub(super) fn compute(asked: &Compute, console: Console) -> Result<Manifest, Error> {
    let Parts { blobs, image, platform } = parts(asked)?;
    let scratch = Output::create(&std::env::temp_dir(), false)?;
    let progress = Progress::of_bytes(blobs.iter().map(Blob::length).sum(), console);
    let records: Vec<LayerRecord> =
        blobs.iter().map(|blob| build(blob, &scratch, &progress)).collect::<Result<_, _>>()?;
    Ok(trust::list(&records, image, platform)?)
}

fn build(blob: &Blob, scratch: &Output, progress: &Progress) -> Result<LayerRecord, Error> {
    progress.name(&blob.name());
    // Deleted at the end of this function.
    let draft = scratch.draft()?;
    let mut bytes: Box<dyn Read + Send> = Box::new(progress.count(blob.open()?.bytes));
    let converted = offline::convert(&mut bytes, draft.path(), HashTree::With)
        .map_err(|source| Error::Layer { path: blob.name(), source })?;
    blob.check(&converted)?;
    Ok(converted.record)
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
