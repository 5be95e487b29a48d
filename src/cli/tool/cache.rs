//! The verbs about layer caches.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::error::Error;
use super::layout::{self, Layer};
use super::report::{Report, State};
use crate::diff::offline::{self, Converted};
use crate::image::digest::Digest;
use crate::layer::cache::{Entry, LayerCache, transfer};
use crate::layer::shelf::Found;
use crate::layer::{HashTree, LayerKey, Shelf, open};
use crate::store;

/// Builds the layers of `sources` into the cache in `directory`.
pub(super) fn add(directory: &Path, sources: &[PathBuf], report: &mut Report) -> Result<(), Error> {
    let cache = LayerCache::new(directory.to_owned());
    for source in sources {
        let found =
            source.metadata().map_err(|error| Error::Source { path: source.clone(), source: error })?;
        if found.is_dir() {
            layout::layers(source)?.iter().try_for_each(|layer| add_layer(&cache, layer, report))?;
        } else {
            build(&cache, source, report, |_| Ok(()))?;
        }
    }
    Ok(())
}

/// A layer of an image, unless the cache has it.
fn add_layer(cache: &LayerCache, layer: &Layer, report: &mut Report) -> Result<(), Error> {
    match usable(cache, &layer.diff_id) {
        Some(entry) => report.add(&entry, State::Present),
        None => build(cache, &layer.path, report, |converted| {
            let same = |what, found: Digest, expected: Digest| match found == expected {
                true => Ok(()),
                false => Err(Error::Mismatch { path: layer.path.clone(), what, found, expected }),
            };
            same("digest", converted.blob, layer.blob)?;
            same("diffID", converted.diff_id, layer.diff_id)
        })?,
    }
    Ok(())
}

/// Builds a layer from the blob in a file and puts it into the cache if `agree` does.
fn build(
    cache: &LayerCache,
    path: &Path,
    report: &mut Report,
    agree: impl FnOnce(&Converted) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut blob = File::open(path).map_err(|source| Error::Source { path: path.to_owned(), source })?;
    let slot = cache.slot()?;
    let converted = offline::convert(&mut blob, slot.path(), HashTree::Without)
        .map_err(|source| Error::Layer { path: path.to_owned(), source })?;
    agree(&converted)?;
    let Converted { diff_id, record, .. } = converted;
    match usable(cache, &diff_id) {
        Some(entry) => report.add(&entry, State::Present),
        None => report.add(&slot.publish(diff_id, &record)?, State::Added),
    }
    Ok(())
}

/// Puts every layer of the daemon with this root into the cache in `directory`.
pub(super) fn export(directory: &Path, root: &Path, report: &mut Report) -> Result<(), Error> {
    let cache = LayerCache::new(directory.to_owned());
    let shelf = Shelf::new(root.join("layers"));
    for key in keys(&shelf)? {
        match export_layer(&cache, &shelf, &key, report) {
            // The daemon removed it meanwhile.
            Err(Error::Store(error)) if error.is_not_found() => {}
            exported => exported?,
        }
    }
    Ok(())
}

fn export_layer(cache: &LayerCache, shelf: &Shelf, key: &LayerKey, report: &mut Report) -> Result<(), Error> {
    let record = shelf.read_record(key)?;
    // What a snapshot wrote is of no use anywhere else, and caches hold the project's own layout only.
    let Some(diff_id) = record.native_diff_id() else { return Ok(()) };
    if let Some(entry) = usable(cache, &diff_id) {
        report.add(&entry, State::Present);
        return Ok(());
    }
    if let Found::Broken { .. } = shelf.check(&record) {
        // The daemon says so in its log, and builds it again.
        return Ok(());
    }
    let slot = cache.slot()?;
    transfer::transfer(&shelf.image(key), slot.path())?;
    report.add(&slot.publish(diff_id, &record)?, State::Added);
    Ok(())
}

/// The keys of all layers on a shelf.
fn keys(shelf: &Shelf) -> Result<Vec<LayerKey>, Error> {
    let failed = |source| store::Error::Io { operation: "read", path: shelf.path().to_owned(), source };
    let names = fs::read_dir(shelf.path())
        .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>, _>>())
        .map_err(failed)?;
    let mut keys: Vec<LayerKey> = names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect();
    keys.sort();
    Ok(keys)
}

/// Lists what is in the cache in `directory`.
pub(super) fn list(directory: &Path, report: &mut Report) -> Result<(), Error> {
    let entries = existing(directory)?.entries()?;
    entries.iter().for_each(|entry| report.add(entry, State::Present));
    Ok(())
}

/// Checks what is in the cache in `directory`.
pub(super) fn verify(directory: &Path, report: &mut Report) -> Result<(), Error> {
    for entry in existing(directory)?.entries()? {
        match entry.check() {
            Err(reason) => report.refuse(&entry, &reason),
            Ok(_) => match open::open(entry.path()) {
                Err(reason) => report.refuse(&entry, &reason),
                Ok(_) => report.add(&entry, State::Whole),
            },
        }
    }
    Ok(())
}

/// A cache that is only read; a name with a typing error must not pass for an empty cache.
fn existing(directory: &Path) -> Result<LayerCache, Error> {
    directory.read_dir().map_err(|source| store::Error::Io {
        operation: "read",
        path: directory.to_owned(),
        source,
    })?;
    Ok(LayerCache::new(directory.to_owned()))
}

/// The layer, if the cache has one that daemons take.
fn usable(cache: &LayerCache, diff_id: &Digest) -> Option<Entry> {
    cache.find(diff_id).filter(|entry| entry.check().is_ok())
}
