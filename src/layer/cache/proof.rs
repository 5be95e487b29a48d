//! Whether a file is what the builder would make of a tar, bit for bit.
//!
//! The tar is built as always, but whatever the builder would write is compared with what the file has at
//! that place. The builder writes every byte of an image and is a pure function of the tar, so nothing of
//! the file is taken on trust. So it is with a dm-verity tree: one that the file has is compared, one that
//! it lacks is written.

use std::fs::File;
use std::io::{self, BufRead};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::image::digest::Digest;
use crate::image::erofs::{self, ImageSink, Writer};
use crate::image::tar::{self, Limits};
use crate::image::tree::BLOCK_SIZE;
use crate::layer::build::Built;
use crate::layer::hashing::{self, BlockFeed, Hashing};
use crate::layer::image_file::{self, Uuids};
use crate::layer::{HashTree, RootAttributes, Verity};

/// A file whose data was compared. Its metadata follows when the diffID is known.
#[derive(Debug)]
pub struct Unproven {
    path: PathBuf,
    file: Arc<File>,
    writer: Writer<Comparison>,
    hashing: Option<Hashing>,
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
    /// The tree cannot be made.
    #[error(transparent)]
    Tree(#[from] image_file::Error),
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

/// Reads `tar` up to its end and compares its data with that in the file `path`, which is to have a
/// dm-verity tree in the end or not.
///
/// # Errors
/// [`Error::Different`] at the first difference.
pub fn read(tar: &mut impl BufRead, path: &Path, hash_tree: HashTree) -> Result<Unproven, Error> {
    let failed = |operation| move |source| Error::Io { operation, path: path.to_owned(), source };
    let (feed, hashing) = match hash_tree {
        HashTree::Without => (None, None),
        HashTree::With => {
            let (feed, hashing) = hashing::start().map_err(failed("start a thread for"))?;
            (Some(feed), Some(hashing))
        }
    };
    let file = Arc::new(File::open(path).map_err(failed("open"))?);
    let mut writer = Writer::new(Comparison { file: Arc::clone(&file), feed, found: Vec::new() });
    match tar::read_layer(tar, &mut writer, &Limits::default()) {
        Ok(layer) => Ok(Unproven { path: path.to_owned(), file, writer, hashing, layer }),
        Err(error) => Err(match &error {
            tar::Error::Store { source, .. } => different(path, source),
            _ => None,
        }
        .unwrap_or(Error::Tar(error))),
    }
}

impl Unproven {
    /// Compares metadata, superblock and tree, or writes the tree if it is to have one and has none.
    ///
    /// # Errors
    /// [`Error::Different`] at the first difference.
    pub fn finish(self, diff_id: &Digest) -> Result<Built, Error> {
        let Self { path, file, writer, hashing, layer } = self;
        let uuids = Uuids::of_tar(diff_id);
        let summary = writer.finish(&layer.tree, uuids.image).map_err(|error| {
            match &error {
                erofs::Error::Write(source) => different(&path, source),
                _ => None,
            }
            .unwrap_or_else(|| Error::Compare { path: path.clone(), source: error })
        })?;
        let root = layer.root.as_ref().map(RootAttributes::of);
        let built = Built {
            image_bytes: u64::from(summary.blocks) * BLOCK_SIZE,
            root,
            entries: layer.entries,
            verity: None,
        };
        let failed = |operation| {
            let path = path.clone();
            move |source| Error::Io { operation, path, source }
        };
        let found = file.metadata().map_err(failed("look at"))?.len();
        let Some(hashing) = hashing else { return built.of_size(&path, found) };
        let tree = image_file::tree_over(&path, hashing, summary.blocks)?;
        let verity = Verity::new(&tree, uuids.verity);
        if found == built.image_bytes {
            image_file::append_tree(&path, &tree, uuids.verity)?;
        } else {
            let mut comparison = Comparison { file, feed: None, found: Vec::new() };
            tree.write(uuids.verity, &mut comparison)
                .map_err(|error| different(&path, &error).unwrap_or_else(|| failed("read")(error)))?;
        }
        let found = path.metadata().map_err(failed("look at"))?.len();
        Built { image_bytes: tree.geometry().file_size(), verity: Some(verity), ..built }
            .of_size(&path, found)
    }
}

impl Built {
    /// The same, if the file has this size.
    fn of_size(self, path: &Path, found: u64) -> Result<Self, Error> {
        match self.image_bytes {
            expected if expected == found => Ok(self),
            expected => Err(Error::Different { path: path.to_owned(), offset: expected.min(found) }),
        }
    }
}

/// Takes what would be written, and compares.
#[derive(Debug)]
struct Comparison {
    file: Arc<File>,
    feed: Option<BlockFeed>,
    /// What the file has, to be compared.
    found: Vec<u8>,
}

impl ImageSink for Comparison {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if let Some(feed) = &self.feed {
            feed.write(offset, bytes)?;
        }
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
