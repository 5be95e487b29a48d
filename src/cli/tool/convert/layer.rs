//! The blob of a layer that is an EROFS image.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use crate::cli::tool::error::Error;
use crate::cli::tool::oci::image::Layer;
use crate::cli::tool::oci::{Descriptor, Layout, LayoutWriter};
use crate::cli::tool::progress::Progress;
use crate::diff::offline;
use crate::image::digest::Digest;
use crate::layer::{HashTree, Verity};
use crate::store;

/// Type of a layer that is an EROFS image (`core/images/mediatypes.go`, containerd 2.3).
const EROFS_TYPE: &str = "application/vnd.erofs.layer.v1";
/// The same, as zstd.
const EROFS_ZSTD_TYPE: &str = "application/vnd.erofs.layer.v1+zstd";
/// What `zstd` does without being told. Another level would give other bytes.
const ZSTD_LEVEL: i32 = 3;

/// Annotation of a layer with the parameters of the dm-verity tree that belongs behind its image, as JSON
/// (`guest::verity::Parameters`). The tree itself is not in the blob: it follows from the image.
const VERITY_ANNOTATION: &str = "io.nexuserofs.verity";

/// A layer that is an EROFS image.
#[derive(Clone, Debug)]
pub(super) struct Native {
    pub(super) blob: Descriptor,
    /// Digest of the image itself.
    pub(super) diff_id: Digest,
}

/// Makes an image of a layer that is a tar: the one that the daemon would make.
pub(super) fn make(
    source: &Layout,
    layer: &Layer,
    writer: &LayoutWriter,
    compress: bool,
    progress: &Progress,
) -> Result<Native, Error> {
    let path = || source.blob_name(&layer.blob.digest);
    let mut bytes: Box<dyn Read + Send> =
        Box::new(progress.count(source.open_blob(&layer.blob.digest)?.bytes));
    let draft = writer.draft()?;
    let converted = offline::convert(&mut bytes, &draft, HashTree::With)
        .map_err(|source| Error::Layer { path: path(), source })?;
    layer.check(&converted, path)?;
    let annotations = without_tree(&draft, converted.record.verity.as_ref())?;
    let (diff_id, size) = digest_of(&draft)?;
    let blob = if compress {
        let (digest, size) = compressed(&draft, size, writer)?;
        Descriptor::new(EROFS_ZSTD_TYPE, digest, size)
    } else {
        writer.add_file(&draft, &diff_id)?;
        Descriptor::new(EROFS_TYPE, diff_id, size)
    };
    Ok(Native { blob: blob.with_annotations(annotations), diff_id })
}

/// Cuts the tree off the file `draft`, and returns what is said about it in its place.
fn without_tree(draft: &Path, verity: Option<&Verity>) -> Result<BTreeMap<String, String>, Error> {
    let Some(verity) = verity else { return Ok(BTreeMap::new()) };
    let cut = File::options().write(true).open(draft).and_then(|file| file.set_len(verity.image_size()));
    cut.map_err(store::Error::io("cut", draft))?;
    let parameters =
        verity.parameters().map_err(|source| Error::Parameters { path: draft.to_owned(), source })?;
    let text = serde_json::to_string(&parameters)
        .map_err(|source| Error::Layout { path: draft.to_owned(), source })?;
    Ok(BTreeMap::from([(VERITY_ANNOTATION.to_owned(), text)]))
}

/// Takes a layer that is an image already as it is.
pub(super) fn keep(
    source: &Layout,
    layer: &Layer,
    writer: &LayoutWriter,
    progress: &Progress,
) -> Result<Native, Error> {
    let expected = layer.blob.digest;
    let mut bytes = progress.count(source.open_blob(&expected)?.bytes);
    let (found, _) = writer.add_stream(&mut bytes)?;
    if found != expected {
        return Err(Error::Mismatch { path: source.blob_name(&expected), what: "digest", found, expected });
    }
    Ok(Native { blob: layer.blob.clone(), diff_id: layer.diff_id })
}

/// Digest and size in bytes of a file.
fn digest_of(path: &Path) -> Result<(Digest, u64), Error> {
    let digested = File::open(path).and_then(|mut file| Digest::of_stream(&mut file));
    Ok(digested.map_err(store::Error::io("read", path))?)
}

/// Takes what is in a draft of `length` bytes, compressed, in its place.
fn compressed(draft: &Path, length: u64, writer: &LayoutWriter) -> Result<(Digest, u64), Error> {
    let encoder = File::open(draft).and_then(|file| encoder(file, length));
    let mut encoder = encoder.map_err(store::Error::io("read", draft))?;
    let added = writer.add_stream(&mut encoder)?;
    fs::remove_file(draft).map_err(store::Error::io("delete", draft))?;
    Ok(added)
}

fn encoder(file: File, length: u64) -> io::Result<impl Read> {
    let mut encoder = zstd::stream::read::Encoder::new(file, ZSTD_LEVEL)?;
    encoder.include_checksum(true)?;
    encoder.set_pledged_src_size(Some(length))?;
    Ok(encoder)
}
