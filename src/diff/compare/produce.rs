//! The work of a comparison on threads that may block: from layers to the bytes of a blob.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;

use super::digesting::Digesting;
use super::error::Error;
use super::format::{Compression, Encoder, Format};
use super::part::{self, Part};
use super::sides::Difference;
use super::sink::Sink;
use crate::diff::pass::{Cancel, Measured};
use crate::image::digest::Digest;
use crate::image::erofs::read::Limits;
use crate::image::overlay::{self, Layer, Merged};
use crate::image::tar;
use crate::image::tar::write::{self, Options, Summary};
use crate::image::tree::Timestamp;
use crate::layer::{HashTree, build};
use crate::snapshot::Snapshotter;

/// Size in bytes of the buffers between the steps.
const BUFFER: usize = 128 * 1024;

/// A difference that is to become a blob.
pub(super) struct Work {
    pub(super) snapshots: Snapshotter,
    pub(super) difference: Difference,
    pub(super) format: Format,
    pub(super) source_date_epoch: Option<Timestamp>,
    pub(super) cancel: Cancel,
}

/// A blob whose bytes are all on their way.
pub(super) struct Produced {
    pub(super) blob: Measured,
    /// Digest of the uncompressed layer.
    pub(super) uncompressed: Digest,
    /// What the layer has as a tar; None if it is the file of a layer as it is.
    pub(super) summary: Option<Summary>,
}

impl Work {
    /// Makes the blob and gives its bytes to `sink`.
    pub(super) fn produce(&self, sink: Sink) -> Result<Produced, Error> {
        let parts = self.parts()?;
        if let (Format::Erofs, Some((path, bytes))) = (self.format, self.finished_image(&parts)) {
            return self.image(&path, bytes, None, sink);
        }
        let layers: Vec<Layer<'_>> = parts.iter().map(Part::layer).collect();
        let mut merged = overlay::merge(&layers, self.changed())?;
        part::forget_unchanged_root(merged.tree_mut(), &self.difference.root_below);
        match self.format {
            Format::Tar(compression) => self.tar(&merged, compression, sink),
            Format::Erofs => self.erofs(&merged, sink),
        }
    }

    /// How many of the parts are the difference.
    fn changed(&self) -> usize {
        usize::from(self.difference.written.is_some()) + self.difference.layers.len()
    }

    /// What is the difference, topmost first, and what it stands on where that is needed.
    fn parts(&self) -> Result<Vec<Part>, Error> {
        let mut left = Limits::default();
        let mut sealed = |layers: &[_]| -> Result<Vec<Part>, Error> {
            layers.iter().map(|layer| Part::sealed(&self.snapshots.layer_image(layer), &mut left)).collect()
        };
        let mut parts = Vec::new();
        if let Some(written) = &self.difference.written {
            parts.push(Part::written(&self.snapshots, written, &|| self.cancel.is_cancelled())?);
        }
        parts.extend(sealed(&self.difference.layers)?);
        if parts.iter().any(|part| part.layer().needs_layers_below()) {
            parts.extend(sealed(&self.difference.below)?);
        }
        Ok(parts)
    }

    fn tar(&self, merged: &Merged<'_>, compression: Compression, sink: Sink) -> Result<Produced, Error> {
        let failed = |source| Error::Stream { operation: "compress", source };
        let encoder = Encoder::new(compression, Digesting::new(sink, &self.cancel)).map_err(failed)?;
        let (encoder, tar, summary) = self.write_tar(encoder, merged)?;
        let (sink, blob) = encoder.finish().map_err(failed)?.finish();
        sink.finish().map_err(failed)?;
        Ok(Produced { blob, uncompressed: tar.digest, summary: Some(summary) })
    }

    /// Writes the tar to `out`.
    fn write_tar<W: Write>(&self, out: W, merged: &Merged<'_>) -> Result<(W, Measured, Summary), Error> {
        let options = Options { source_date_epoch: self.source_date_epoch };
        // Headers are small, and each write is digested.
        let mut buffered = BufWriter::with_capacity(BUFFER, Digesting::new(out, &self.cancel));
        let summary = write::write(&mut buffered, merged.tree(), merged, &options)?;
        let digesting = buffered.into_inner().map_err(|error| write::Error::Write(error.into_error()))?;
        let (out, tar) = digesting.finish();
        Ok((out, tar, summary))
    }

    /// The image that unpacking the tar would give: it goes the same way, without the detour over the
    /// content store. It is made in a file, because its first block is written last.
    fn erofs(&self, merged: &Merged<'_>, sink: Sink) -> Result<Produced, Error> {
        let staging = self.snapshots.staging()?;
        let path = staging.layer_path();
        let pipe = |source| Error::Stream { operation: "build an EROFS layer of", source };
        let (reader, writer) = io::pipe().map_err(pipe)?;
        let (written, read) = thread::scope(|scope| {
            let read = scope.spawn(|| {
                build::read(&mut BufReader::with_capacity(BUFFER, reader), &path, HashTree::Without)
            });
            // The reader must not wait for a writer that is only still open.
            let written = self.write_tar(writer, merged).map(|(_, tar, summary)| (tar, summary));
            (written, read.join())
        });
        let read = read.map_err(|_| pipe(io::Error::other("the thread that reads the tar panicked")))?;
        let (tar, summary, read) = match (written, read) {
            (Ok((tar, summary)), read) => (tar, summary, read?),
            // An archive that ends early is the consequence of what its writer says.
            (Err(reason), Ok(_) | Err(build::Error::Tar(tar::Error::Cut { .. }))) => return Err(reason),
            // And a pipe that is closed that of what its reader says.
            (Err(_), Err(reason)) => return Err(reason.into()),
        };
        let built = read.seal(&tar.digest)?;
        self.image(&path, built.image_bytes, Some(summary), sink)
    }

    /// The file of the one layer that is the whole difference, and its size in bytes, if it can be given
    /// away as it is.
    fn finished_image(&self, parts: &[Part]) -> Option<(PathBuf, u64)> {
        match (&self.difference.written, self.difference.layers.as_slice(), parts, self.source_date_epoch) {
            (None, [layer], [Part::Sealed(image)], None) if !parts[0].layer().needs_layers_below() => {
                Some((self.snapshots.layer_image(layer), image.superblock().image_size()))
            }
            _ => None,
        }
    }

    /// Copies an image of this size in bytes.
    fn image(
        &self,
        path: &Path,
        bytes: u64,
        summary: Option<Summary>,
        sink: Sink,
    ) -> Result<Produced, Error> {
        let mut out = Digesting::new(sink, &self.cancel);
        let copied = File::open(path).and_then(|file| io::copy(&mut file.take(bytes), &mut out));
        let failed = |source| Error::Stream { operation: "copy the image of", source };
        copied.map_err(failed)?;
        let (sink, blob) = out.finish();
        sink.finish().map_err(failed)?;
        Ok(Produced { blob, uncompressed: blob.digest, summary })
    }
}
