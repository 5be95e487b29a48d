//! `nexuserofs device`: one block device of layers, for a virtual machine.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::arguments::{Device, DeviceLayout};
use super::error::Error;
use super::output::Output;
use super::progress::Progress;
use super::report::{Console, Line, Report};
use super::subject::sidecar_of;
use crate::cli::exit::Exit;
use crate::expose::device::{self, Carrier, Chain, Form, Layout};
use crate::image::digest::Digest;
use crate::image::gpt::Style;
use crate::layer::HashTree;
use crate::layer::chain::shelf::{IMAGE_NAME, TREE_NAME};
use crate::layer::chain::{self, Outcome, Part};
use crate::layer::verity::Verity;
use crate::store::staging::StagingArea;
use crate::store::{self, sidecar};

/// A device that was asked for.
#[derive(Debug, Serialize)]
struct Made {
    /// What a monitor opens.
    file: String,
    /// QEMU's name for the format of that.
    format: &'static str,
    /// Size of the device.
    bytes: u64,
    /// Number of layers on it.
    layers: usize,
    /// Root hash of the tree over all of it; null without one.
    root_hash: Option<Digest>,
}

/// A device that is ready, and the root hash of the tree over all of it, if there is one.
#[derive(Debug)]
pub(super) struct Ready {
    device: device::Device,
    root: Option<Digest>,
}

/// What is to be made, and where.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) form: Form,
    /// The directory for its files; made if it is missing.
    pub(super) output: &'a Path,
    /// Files of layers, the oldest first.
    pub(super) layers: &'a [PathBuf],
}

/// Makes the device that the arguments name, and tells of it.
pub(super) fn run(asked: &Device, console: Console) -> Result<Exit, Error> {
    let layers = asked.layers.iter().map(|path| resolved(path)).collect::<Result<Vec<_>, _>>()?;
    let Ready { device, root } =
        make(&Asked { form: form(asked), output: &asked.output, layers: &layers }, console)?;
    let mut report = Report::default();
    report.add(Made {
        file: device.path.display().to_string(),
        format: if asked.flat { "raw" } else { "vmdk" },
        bytes: device.bytes,
        layers: layers.len(),
        root_hash: root,
    });
    report.print(console)?;
    Ok(Exit::Success)
}

/// Makes a device. One that is there already is taken as it is.
pub(super) fn make(asked: &Asked<'_>, console: Console) -> Result<Ready, Error> {
    Output::create(asked.output, false)?;
    let home = resolved(asked.output)?;
    let merged = match asked.form.layout {
        Layout::Merged if asked.layers.len() > 1 => Some(merge(asked.layers, &home, HashTree::Without)?),
        Layout::Verified if asked.layers.len() > 1 => Some(merge(asked.layers, &home, HashTree::With)?),
        _ => None,
    };
    let (metadata, root) = merged.map_or((None, None), |(path, root)| (Some(path), root));
    let chain = Chain { home: &home, metadata: metadata.as_deref(), layers: asked.layers };
    let progress = Progress::of_bytes(total(asked.layers)?, console);
    let mut before = 0;
    let made = device::make(asked.form, chain, &StagingArea::new(home.clone()), &mut |done| {
        progress.advance(done.saturating_sub(before));
        before = done;
    });
    drop(progress);
    Ok(Ready { device: made?, root })
}

const fn form(asked: &Device) -> Form {
    let layout = match asked.layout {
        DeviceLayout::Merged => Layout::Merged,
        DeviceLayout::Verified => Layout::Verified,
        DeviceLayout::Partitions => Layout::Partitions(Style::Kata),
        DeviceLayout::NerdboxPartitions => Layout::Partitions(Style::Nerdbox),
    };
    Form { layout, carrier: if asked.flat { Carrier::Flat } else { Carrier::Vmdk } }
}

/// The path without symbolic links, which some monitors refuse.
pub(super) fn resolved(path: &Path) -> Result<PathBuf, Error> {
    fs::canonicalize(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

/// Size of all layers in bytes: nearly that of a device of them.
fn total(layers: &[PathBuf]) -> Result<u64, Error> {
    layers.iter().map(|path| size(path)).sum()
}

/// Size of a file in bytes.
pub(super) fn size(path: &Path) -> Result<u64, Error> {
    let found = fs::metadata(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    Ok(found.len())
}

/// Writes the layers' merged metadata, and the tree over all of it if there is to be one, unless they are there. Returns
/// where the metadata is, and the root hash of that tree.
fn merge(layers: &[PathBuf], home: &Path, hash_tree: HashTree) -> Result<(PathBuf, Option<Digest>), Error> {
    let part = |path: &PathBuf| {
        let verity = match hash_tree {
            HashTree::With => Some(sidecar::read::<Verity>(&sidecar_of(path))?),
            HashTree::Without => None,
        };
        Ok(Part { path: path.clone(), bytes: size(path)?, verity })
    };
    let built = chain::build(&layers.iter().map(part).collect::<Result<Vec<_>, Error>>()?)?;
    let root = match built.outcome {
        Outcome::Merged { verity, .. } => verity.map(|verity| verity.root()),
        Outcome::Unmergeable { unmergeable } => return Err(Error::Unmergeable { reason: unmergeable }),
    };
    if hash_tree == HashTree::With {
        keep(home, TREE_NAME, &built.tree)?;
    }
    Ok((keep(home, IMAGE_NAME, &built.image)?, root))
}

/// Writes a file, unless it is there with these bytes.
fn keep(home: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf, Error> {
    let place = home.join(name);
    if fs::read(&place).is_ok_and(|found| found == bytes) {
        return Ok(place);
    }
    let output = Output::create(home, false)?;
    let draft = output.draft()?;
    fs::write(draft.path(), bytes).map_err(store::Error::io("write", draft.path()))?;
    output.publish(draft, name)
}

impl Line for Made {
    fn text(&self) -> String {
        let root = self.root_hash.map_or_else(String::new, |root| format!(", root hash {}", root.hex()));
        format!("{} {:>12} {} of {} layers{root}", self.format, self.bytes, self.file, self.layers)
    }
}
