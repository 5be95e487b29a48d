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
use crate::layer::{HashTree, LAYOUT_VERSION, LayerKey};

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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// It was made.
    Built,
    /// It was there, whole as far as size, superblock and UUID show.
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
    let lengths: Vec<u64> = blobs.iter().map(Blob::length).collect();
    let is_known = lengths.iter().all(|length| *length > 0);
    let progress = Progress::of_bytes(if is_known { lengths.iter().sum() } else { 0 }, console);
    for blob in &blobs {
        progress.name(&blob.name());
        report.add(build(blob, &output, &progress)?);
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

fn build(blob: &Blob, output: &Output, progress: &Progress) -> Result<Built, Error> {
    let announced = blob.layer().map(|layer| layer.diff_id).filter(|_| !output.replaces());
    if let Some(built) = announced.and_then(|diff_id| present(blob, diff_id, output)) {
        progress.advance(blob.length());
        return Ok(built);
    }
    let draft = output.draft()?;
    let mut bytes: Box<dyn Read + Send> = Box::new(progress.count(blob.open()?.bytes));
    let converted = offline::convert(&mut bytes, draft.path(), HashTree::Without)
        .map_err(|source| Error::Layer { path: blob.name(), source })?;
    blob.check(&converted)?;
    let Converted { diff_id, blob: digest, record } = converted;
    // A tar tells its name only now.
    if let Some(built) = Some(diff_id).filter(|_| !output.replaces()).and_then(|id| present(blob, id, output))
    {
        return Ok(Built { blob: Some(digest), ..built });
    }
    let file = output.publish(draft, &image_name(&record.key))?;
    output.write_json(&record, &format!("{}.json", record.key))?;
    Ok(Built {
        source: blob.name().display().to_string(),
        blob: Some(digest),
        diff_id,
        key: record.key,
        file: file.display().to_string(),
        bytes: record.image_bytes,
        state: State::Built,
    })
}

/// The layer, if its file is there. One that is cut short or another program's is not it.
fn present(blob: &Blob, diff_id: Digest, output: &Output) -> Option<Built> {
    let key = LayerKey::new(LAYOUT_VERSION, &diff_id);
    let file = output.place(&image_name(&key));
    let checked = Entry::new(file.clone(), diff_id).check().ok()?;
    Some(Built {
        source: blob.name().display().to_string(),
        blob: None,
        diff_id,
        key,
        file: file.display().to_string(),
        bytes: checked.image_bytes,
        state: State::Present,
    })
}

fn image_name(key: &LayerKey) -> String {
    format!("{key}.erofs")
}

impl Line for Built {
    fn text(&self) -> String {
        let state = match self.state {
            State::Built => "built",
            State::Present => "present",
        };
        format!("{} {:>12} {state} {} of {}", self.diff_id, self.bytes, self.file, self.source)
    }
}
