//! The verbs about layer caches. * `line`: what they print.

mod line;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use self::line::{CacheLine, State};
use super::arguments::CacheVerb;
use super::error::Error;
use super::oci::Selection;
use super::report::{Console, Report};
use super::source::{self, Blob};
use crate::cli::exit::Exit;
use crate::diff::offline::{self, Converted};
use crate::image::digest::Digest;
use crate::layer::cache::entry::Checked;
use crate::layer::cache::transfer::{self, Purpose};
use crate::layer::cache::{Entry, LayerCache};
use crate::layer::shelf::Found;
use crate::layer::{HashTree, LayerKey, Shelf, open};
use crate::store;

/// Does what `verb` says. What was done before a failure is done, and said.
pub(super) fn run(verb: &CacheVerb, console: Console) -> Result<Exit, Error> {
    let mut report = Report::default();
    let done = match verb {
        CacheVerb::Add { directory, sources, verity } => {
            add(directory, HashTree::wanted(*verity), sources, &mut report)
        }
        CacheVerb::Export { directory, root } => export(directory, root, &mut report),
        CacheVerb::List { directory } => list(directory, &mut report),
        CacheVerb::Verify { directory } => verify(directory, &mut report),
    };
    report.print(console)?;
    done?;
    let is_refused = |line: &CacheLine| line.state == State::Refused;
    Ok(if report.lines().iter().any(is_refused) { Exit::Data } else { Exit::Success })
}

/// Builds the layers of `sources` into the cache in `directory`, with or without dm-verity trees.
fn add(
    directory: &Path,
    hash_tree: HashTree,
    sources: &[PathBuf],
    report: &mut Report<CacheLine>,
) -> Result<(), Error> {
    let cache = LayerCache::new(directory.to_owned());
    for path in sources {
        for blob in source::blobs(path, &Selection::default())? {
            let known = blob.layer().and_then(|layer| usable(&cache, &layer.diff_id, hash_tree));
            match known {
                Some(entry) => report.add(CacheLine::new(&entry, State::Present)),
                None => build(&cache, hash_tree, &blob, report)?,
            }
        }
    }
    Ok(())
}

/// Builds a layer and puts it into the cache, if it is what its image says.
fn build(
    cache: &LayerCache,
    hash_tree: HashTree,
    blob: &Blob,
    report: &mut Report<CacheLine>,
) -> Result<(), Error> {
    let mut bytes: Box<dyn Read + Send> = blob.open()?.bytes;
    let slot = cache.slot()?;
    let converted = offline::convert(&mut bytes, slot.path(), hash_tree)
        .map_err(|source| Error::Layer { path: blob.name(), source })?;
    blob.check(&converted)?;
    let Converted { diff_id, record, .. } = converted;
    let line = match usable(cache, &diff_id, hash_tree) {
        Some(entry) => CacheLine::new(&entry, State::Present),
        None => CacheLine::new(&slot.publish(diff_id, &record)?, State::Added),
    };
    report.add(line);
    Ok(())
}

/// Puts every layer of the daemon with this root into the cache in `directory`.
fn export(directory: &Path, root: &Path, report: &mut Report<CacheLine>) -> Result<(), Error> {
    let cache = LayerCache::new(directory.to_owned());
    let shelf = Shelf::new(root.join(Shelf::DIRECTORY));
    for key in keys(&shelf)? {
        match export_layer(&cache, &shelf, &key, report) {
            // The daemon removed it meanwhile.
            Err(Error::Store(error)) if error.is_not_found() => {}
            exported => exported?,
        }
    }
    Ok(())
}

fn export_layer(
    cache: &LayerCache,
    shelf: &Shelf,
    key: &LayerKey,
    report: &mut Report<CacheLine>,
) -> Result<(), Error> {
    let record = shelf.read_record(key)?;
    // What a snapshot wrote is of no use anywhere else, and caches hold the project's own layout only.
    let Some(diff_id) = record.native_diff_id() else { return Ok(()) };
    if let Some(entry) = usable(cache, &diff_id, HashTree::wanted(record.verity.is_some())) {
        report.add(CacheLine::new(&entry, State::Present));
        return Ok(());
    }
    if let Found::Broken { .. } = shelf.check(&record) {
        // The daemon says so in its log, and builds it again.
        return Ok(());
    }
    let slot = cache.slot()?;
    transfer::transfer(&shelf.image(key), slot.path(), Purpose::Read)?;
    report.add(CacheLine::new(&slot.publish(diff_id, &record)?, State::Added));
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
fn list(directory: &Path, report: &mut Report<CacheLine>) -> Result<(), Error> {
    let entries = existing(directory)?.entries()?;
    entries.iter().for_each(|entry| report.add(CacheLine::new(entry, State::Present)));
    Ok(())
}

/// Checks what is in the cache in `directory`.
fn verify(directory: &Path, report: &mut Report<CacheLine>) -> Result<(), Error> {
    for entry in existing(directory)?.entries()? {
        report.add(match entry.check() {
            Err(reason) => CacheLine::refused(&entry, &reason),
            Ok(_) => match open::open(entry.path()) {
                Err(reason) => CacheLine::refused(&entry, &reason),
                Ok(_) => CacheLine::new(&entry, State::Whole),
            },
        });
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

/// The layer, if the cache has one that daemons take, with a dm-verity tree if it is to have one.
fn usable(cache: &LayerCache, diff_id: &Digest, hash_tree: HashTree) -> Option<Entry> {
    let has = |checked: Checked| hash_tree == HashTree::Without || checked.hash_tree == HashTree::With;
    cache.find(diff_id).filter(|entry| entry.check().is_ok_and(has))
}
