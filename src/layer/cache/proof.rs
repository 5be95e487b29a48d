//! Whether a file is what the builder would make of a tar, bit for bit.
//!
//! The tar is built as always, but whatever the builder would write is compared with what the file has at
//! that place. The builder writes every byte of an image and is a pure function of the tar, so nothing of
//! the file is taken on trust.

use std::fs::File;
use std::io::{self, BufRead};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::image::digest::Digest;
use crate::image::erofs::{self, ImageSink, Writer};
use crate::image::tar::{self, Limits};
use crate::image::tree::BLOCK_SIZE;
use crate::layer::RootAttributes;
use crate::layer::build::Built;

/// A file whose data was compared. Its metadata follows when the diffID is known.
#[derive(Debug)]
pub struct Unproven {
    path: PathBuf,
    writer: Writer<Comparison>,
    layer: tar::Layer,
}

/// Why a file is not proven.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It differs.
    #[error("{path} is not what the builder makes of this layer, at byte {offset}", path = path.display())]
    Different {
        /// The file.
        path: PathBuf,
        /// Offset of the piece that differs, in bytes.
        offset: u64,
    },
    /// The tar cannot be made a layer of.
    #[error("cannot make a layer of the tar")]
    Tar(#[source] tar::Error),
    /// The tree cannot be expressed, or the file cannot be read.
    #[error("cannot compare {path} with the layer", path = path.display())]
    Compare {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: erofs::Error,
    },
    /// The file cannot be read.
    #[error("cannot {operation} {path}", path = path.display())]
    Io {
        /// What failed.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// Reads `tar` up to its end and compares its data with that in the file `path`.
///
/// # Errors
/// [`Error::Different`] at the first difference.
pub fn read(tar: &mut impl BufRead, path: &Path) -> Result<Unproven, Error> {
    let file =
        File::open(path).map_err(|source| Error::Io { operation: "open", path: path.to_owned(), source })?;
    let mut writer = Writer::new(Comparison { file, found: Vec::new() });
    match tar::read_layer(tar, &mut writer, &Limits::default()) {
        Ok(layer) => Ok(Unproven { path: path.to_owned(), writer, layer }),
        Err(error) => Err(match &error {
            tar::Error::Store { source, .. } => different(path, source),
            _ => None,
        }
        .unwrap_or(Error::Tar(error))),
    }
}

impl Unproven {
    /// Compares metadata and superblock.
    ///
    /// # Errors
    /// [`Error::Different`] at the first difference.
    pub fn finish(self, diff_id: &Digest) -> Result<Built, Error> {
        let Self { path, writer, layer } = self;
        let summary = writer.finish(&layer.tree, erofs::uuid(diff_id)).map_err(|error| {
            match &error {
                erofs::Error::Write(source) => different(&path, source),
                _ => None,
            }
            .unwrap_or_else(|| Error::Compare { path: path.clone(), source: error })
        })?;
        let image_bytes = u64::from(summary.blocks) * BLOCK_SIZE;
        let found = path.metadata().map_err(|source| Error::Io {
            operation: "look at",
            path: path.clone(),
            source,
        })?;
        if found.len() != image_bytes {
            return Err(Error::Different { path, offset: image_bytes.min(found.len()) });
        }
        let root = layer.root.as_ref().map(RootAttributes::of);
        Ok(Built { image_bytes, root, entries: layer.entries, verity: None })
    }
}

/// Takes what would be written, and compares.
#[derive(Debug)]
struct Comparison {
    file: File,
    /// What the file has, to be compared.
    found: Vec<u8>,
}

impl ImageSink for Comparison {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.found.resize(bytes.len(), 0);
        match self.file.read_exact_at(&mut self.found, offset) {
            Ok(()) if self.found == bytes => Ok(()),
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
            _ => Err(io::Error::other(Difference { offset })),
        }
    }
}

/// Carries through the builder that something differs.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the file differs from byte {offset} on")]
struct Difference {
    offset: u64,
}

/// The error for what the builder takes for a failed write, if it is a difference.
fn different(path: &Path, error: &io::Error) -> Option<Error> {
    let Difference { offset } = error.get_ref()?.downcast_ref()?;
    Some(Error::Different { path: path.to_owned(), offset: *offset })
}
