//! Disks of other kinds than one layer each: partitions, a layer of more than 2 GiB, a tree of nothing.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use nexuserofs::expose::device::{self, Carrier, Chain, Form, Layout};
use nexuserofs::image::gpt::Style;
use nexuserofs::layer::LayerRecord;
use nexuserofs::store::staging::StagingArea;
use tar_core::EntryType;
use tar_core::builder::EntryBuilder;

use crate::layers;

/// A file of the large layer, of one byte again and again.
pub(crate) const LARGE: &str = "large";
/// That byte.
pub(crate) const LARGE_BYTE: u8 = b'x';
/// The file's length.
pub(crate) const LARGE_BYTES: u64 = (2 << 30) + (64 << 20);
/// A file behind it.
pub(crate) const BEHIND: &str = "behind";
/// The content of that.
pub(crate) const BEHIND_TEXT: &str = "behind 2 GiB\n";

/// Bytes of a tar block.
const BLOCK: usize = 512;

/// A disk with a partition for each layer, in Kata's form: the newest is the first.
pub(crate) fn partitioned(directory: &Path, name: &str, layers: &[PathBuf]) -> Result<PathBuf> {
    let home = directory.join(name);
    let staging = home.join("staging");
    fs::create_dir_all(&staging)?;
    let form = Form { layout: Layout::Partitions(Style::Kata), carrier: Carrier::Flat };
    let chain = Chain { home: &home, metadata: None, layers };
    Ok(device::make(form, chain, &StagingArea::new(staging), &mut |_| {})?.path)
}

/// A layer whose second file lies behind 2 GiB. The tar is never on a disk.
pub(crate) fn large(directory: &Path) -> Result<(PathBuf, LayerRecord)> {
    let end = [&header(BEHIND, BEHIND_TEXT.len() as u64)?, BEHIND_TEXT.as_bytes()].concat();
    let padding = vec![0; 3 * BLOCK - BEHIND_TEXT.len() % BLOCK];
    let large = io::repeat(LARGE_BYTE).take(LARGE_BYTES);
    let begin = io::Cursor::new(header(LARGE, LARGE_BYTES)?);
    let mut tar = begin.chain(large).chain(io::Cursor::new(end)).chain(io::Cursor::new(padding));
    layers::convert(directory, "large", &mut tar)
}

fn header(path: &str, size: u64) -> Result<Vec<u8>> {
    let mut entry = EntryBuilder::new_gnu();
    entry.path(path).entry_type(EntryType::Regular);
    entry.mode(0o644)?.uid(0)?.gid(0)?.mtime(0)?.size(size)?;
    Ok(entry.finish_bytes())
}

/// Writes zeros where a layer's hash tree is: what is left of one that was cut off.
pub(crate) fn empty_tree(layer: &Path, begin: u64, end: u64) -> Result<()> {
    let file = File::options().write(true).open(layer)?;
    let length = usize::try_from(end - begin)?;
    Ok(file.write_all_at(&vec![0; length], begin)?)
}
