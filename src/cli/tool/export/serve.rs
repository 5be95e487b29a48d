//! The process that serves disks.

use std::fs;
use std::io::stdin;
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::arguments::Export;
use crate::cli::exit::Exit;
use crate::cli::tool::device::resolved;
use crate::cli::tool::error::Error;
use crate::cli::tool::subject::sidecar_of;
use crate::config::{LogFormat, LogLevel, LogSettings};
use crate::expose::device::Layout;
use crate::expose::export::place::Owner;
use crate::expose::export::{Image, Layer, Metadata, Place, Wanted, process};
use crate::image::digest::Digest;
use crate::image::gpt::Style;
use crate::image::tree::BLOCK_SIZE;
use crate::image::verity::Geometry;
use crate::layer::chain::ChainRecord;
use crate::layer::chain::shelf::RECORD_NAME;
use crate::layer::verity::Verity;
use crate::store::sidecar;

/// Serves until somebody ends it.
pub(in crate::cli::tool) fn serve(asked: &Export) -> Result<Exit, Error> {
    match &asked.directory {
        Some(directory) => here(asked, directory)?,
        None => {
            let parent = stdin().as_fd().try_clone_to_owned();
            let path = PathBuf::from("standard input");
            process::serve_told(UnixStream::from(parent.map_err(|source| Error::Read { path, source })?))?;
        }
    }
    Ok(Exit::Success)
}

fn here(asked: &Export, directory: &Path) -> Result<(), Error> {
    let image = match asked.layers.as_slice() {
        [] => None,
        layers => Some(Image {
            layout: layout(asked),
            metadata: asked.metadata.as_deref().map(|path| metadata(path, asked)).transpose()?,
            layers: layers.iter().map(|path| layer(path, asked.verify)).collect::<Result<_, _>>()?,
        }),
    };
    let writable = asked.writable.as_deref().map(resolved).transpose()?;
    let wanted = Wanted { owner: Owner::default(), image, writable, queues: asked.queues };
    let log = LogSettings { level: LogLevel::Info, format: LogFormat::Text };
    let (specification, files) = wanted.open(&Place::new(directory.to_owned()), asked.user, log)?;
    Ok(process::serve_here(specification, files)?)
}

const fn layout(asked: &Export) -> Layout {
    match asked.layers.len() {
        2.. if asked.metadata.is_none() => Layout::Partitions(Style::Kata),
        _ => Layout::Merged,
    }
}

fn metadata(path: &Path, asked: &Export) -> Result<Metadata, Error> {
    let path = resolved(path)?;
    let verity = match asked.root_hash {
        _ if !asked.verify => None,
        Some(root) => Some(tree_over_all(&path, asked, root)?),
        None => Some(recorded_tree(&path)?),
    };
    Ok(Metadata { path, verity })
}

/// The tree with this root hash over metadata and layers.
fn tree_over_all(metadata: &Path, asked: &Export, root: Digest) -> Result<Verity, Error> {
    let files = std::iter::once(metadata).chain(asked.layers.iter().map(PathBuf::as_path));
    let bytes = files.map(size).sum::<Result<u64, Error>>()?;
    let geometry = NonZeroU64::new(bytes / BLOCK_SIZE).and_then(Geometry::new);
    let geometry = geometry.ok_or_else(|| Error::NoMetadataTree { path: metadata.to_owned() })?;
    // Only who reads the superblock needs its UUID.
    Ok(Verity::of(geometry, root, [0; 16]))
}

fn size(path: &Path) -> Result<u64, Error> {
    let found = fs::metadata(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    Ok(found.len())
}

/// The tree that the record beside a chain's metadata tells of.
fn recorded_tree(metadata: &Path) -> Result<Verity, Error> {
    let record: Option<ChainRecord> = match sidecar::read(&metadata.with_file_name(RECORD_NAME)) {
        Err(error) if error.is_not_found() => None,
        record => Some(record?),
    };
    let verity = record.and_then(|record| record.verity());
    verity.ok_or_else(|| Error::NoMetadataTree { path: metadata.to_owned() })
}

fn layer(path: &Path, verify: bool) -> Result<Layer, Error> {
    let path = resolved(path)?;
    let verity = verify.then(|| sidecar::read(&sidecar_of(&path))).transpose()?;
    Ok(Layer { path, verity })
}
