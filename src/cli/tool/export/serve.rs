//! The process that serves disks.

use std::io::stdin;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::arguments::Export;
use super::metadata;
use crate::cli::exit::Exit;
use crate::cli::tool::device::resolved;
use crate::cli::tool::error::Error;
use crate::cli::tool::subject::sidecar_of;
use crate::config::{LogFormat, LogLevel, LogSettings};
use crate::expose::device::Layout;
use crate::expose::export::place::Owner;
use crate::expose::export::{Image, Layer, Place, Wanted, process};
use crate::image::gpt::Style;
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
            metadata: asked.metadata.as_deref().map(|path| metadata::find(path, asked)).transpose()?,
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

fn layer(path: &Path, verify: bool) -> Result<Layer, Error> {
    let path = resolved(path)?;
    let verity = verify.then(|| sidecar::read(&sidecar_of(&path))).transpose()?;
    Ok(Layer { path, verity })
}
