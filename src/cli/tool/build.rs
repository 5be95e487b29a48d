//! `nexuserofs build`: layers of tars and images, as the daemon would make them.

use std::io::Read;

use serde::Serialize;

use super::arguments::Build;
use super::error::Error;
use super::oci::Selection;
use super::output::Output;
use super::progress::Progress;
use super::report::{Console, Line, Report};
use super::source::{self, Blob};
use crate::cli::exit::Exit;
use crate::diff::offline::{self, Converted};
use crate::image::digest::Digest;
use crate::layer::cache::Entry;
use crate::layer::{HashTree, LAYOUT_VERSION, LayerKey, LayerRecord, Verity};
use crate::store::sidecar;

/// A layer that was asked for.
#[derive(Debug, Serialize)]
struct Built {
    /// What it was made of.
    source: String,
    /// Digest of that as it was read; null if it did not have to be.
    blob: Option<Digest>,
    diff_id: Digest,
    key: LayerKey,
    file: String,
    /// Size of the file.
    bytes: u64,
    state: State,
    /// The dm-verity tree behind the image; null without one.
    verity: Option<Verity>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// It was made.
    Built,
    /// It was there, whole as far as its size and its record or superblock show.
    Present,
}

/// Builds the layers that `asked` names. What was done before a failure is done, and said.
pub(super) fn run(asked: &Build, console: Console) -> Result<Exit, Error> {
    let mut report = Report::default();
    let done = build_all(asked, console, &mut report);
    report.print(console)?;
    done.map(|()| Exit::Success)
}

fn build_all(asked: &Build, console: Console, report: &mut Report<Built>) -> Result<(), Error> {
    let blobs = blobs(asked)?;
    let output = Output::create(&asked.output, asked.force)?;
    let builder = Builder { output, tree: if asked.verity { HashTree::With } else { HashTree::Without } };
    let lengths: Vec<u64> = blobs.iter().map(Blob::length).collect();
    let is_known = lengths.iter().all(|length| *length > 0);
    let progress = Progress::of_bytes(if is_known { lengths.iter().sum() } else { 0 }, console);
    for blob in &blobs {
        progress.name(&blob.name());
        report.add(builder.build(blob, &progress)?);
    }
    Ok(())
}

/// What is to be built; a source without anything is a mistake.
fn blobs(asked: &Build) -> Result<Vec<Blob>, Error> {
    let selection = Selection { name: asked.image.clone(), platform: asked.platform.clone() };
    let mut blobs = Vec::new();
    for path in &asked.sources {
        let found = match asked.layer {
            true => vec![source::layer(path)],
            false => source::blobs(path, &selection)?,
        };
        if found.is_empty() {
            return Err(Error::NoLayers { path: path.clone() });
        }
        blobs.extend(found);
    }
    Ok(blobs)
}

/// Builds layers into a directory.
struct Builder {
    output: Output,
    tree: HashTree,
}

impl Builder {
    fn build(&self, blob: &Blob, progress: &Progress) -> Result<Built, Error> {
        if let Some(built) = blob.layer().and_then(|layer| self.present(blob, layer.diff_id)) {
            progress.advance(blob.length());
            return Ok(built);
        }
        let draft = self.output.draft()?;
        let mut bytes: Box<dyn Read + Send> = Box::new(progress.count(blob.open()?.bytes));
        let converted = offline::convert(&mut bytes, draft.path(), self.tree)
            .map_err(|source| Error::Layer { path: blob.name(), source })?;
        blob.check(&converted)?;
        let Converted { diff_id, blob: digest, record } = converted;
        // A tar tells its name only now.
        if let Some(built) = self.present(blob, diff_id) {
            return Ok(Built { blob: Some(digest), ..built });
        }
        let file = self.output.publish(draft, &image_name(&record.key))?;
        self.output.write_json(&record, &record_name(&record.key))?;
        if let Some(verity) = &record.verity {
            self.output.write_json(verity, &format!("{}.dmverity", image_name(&record.key)))?;
        }
        Ok(Built {
            source: blob.name().display().to_string(),
            blob: Some(digest),
            diff_id,
            key: record.key,
            file: file.display().to_string(),
            bytes: record.image_bytes,
            state: State::Built,
            verity: record.verity,
        })
    }

    /// The layer, if its file is there and may stay. One that is cut short, another program's, or without the
    /// tree that was asked for, is not it.
    fn present(&self, blob: &Blob, diff_id: Digest) -> Option<Built> {
        let key = LayerKey::new(LAYOUT_VERSION, &diff_id);
        let file = self.output.place(&image_name(&key));
        let (bytes, verity) = match self.tree {
            _ if self.output.replaces() => return None,
            HashTree::Without => (Entry::new(file.clone(), diff_id).check().ok()?.image_bytes, None),
            HashTree::With => {
                let record: LayerRecord = sidecar::read(&self.output.place(&record_name(&key))).ok()?;
                let bytes = file.metadata().ok()?.len();
                let is_whole = record.is_consistent() && record.key == key && record.image_bytes == bytes;
                (bytes, Some(record.verity.filter(|_| is_whole)?))
            }
        };
        Some(Built {
            source: blob.name().display().to_string(),
            blob: None,
            diff_id,
            key,
            file: file.display().to_string(),
            bytes,
            state: State::Present,
            verity,
        })
    }
}

fn image_name(key: &LayerKey) -> String {
    format!("{key}.erofs")
}

fn record_name(key: &LayerKey) -> String {
    format!("{key}.json")
}

impl Line for Built {
    fn text(&self) -> String {
        let state = match self.state {
            State::Built => "built",
            State::Present => "present",
        };
        let root = self.verity.map(|verity| format!(", root hash {}", verity.root())).unwrap_or_default();
        format!("{} {:>12} {state} {} of {}{root}", self.diff_id, self.bytes, self.file, self.source)
    }
}
