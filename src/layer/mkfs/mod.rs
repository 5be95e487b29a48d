//! mkfs.erofs as the builder of a layer, for what image layout v1 has not: compression, other block sizes,
//! and the tar itself behind an index.
//!
//! The tar goes to the program by a pipe while it streams by. Our own reader reads it at the same time and
//! refuses what it refuses for every layer; what the program made goes through [`admission`](super::admission)
//! like any foreign image, and has to show the tree that our reader saw (`agreement`). So a tar that the two
//! read differently is not a layer. `docs/decisions/mkfs-beside-our-reader.md` has the reasons.
//!
//! * [`program`]: which mkfs.erofs is there. * `arguments`: what it is told.
//! * `child`: the process, from start to end. * `tee`: the tar on its way to two readers.
//! * `agreement`: whether they saw the same.

mod agreement;
mod arguments;
mod child;
mod error;
pub mod program;
mod tee;

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

pub use error::Error;
pub use program::Program;

use super::build::Built;
use super::image_file::FILE_MODE;
use super::{HashTree, MkfsBuild, Recipe, RootAttributes, admission};
use crate::image::digest::Digest;
use crate::image::erofs::{self, Superblock};
use crate::image::tar::{self, Limits};
use crate::image::tree::BLOCK_SIZE;
use crate::image::verity;
use arguments::Mode;
use child::Child;
use tee::{Discard, Tee};

/// Base name of the tar that waits beside an index.
const TAR_NAME: &str = "layer.tar";

/// Says whether nobody waits for the layer any more.
pub type Stop<'s> = &'s dyn Fn() -> bool;

/// An image that the program wrote, of a tar that was read to its end. Its UUID follows when the diffID is
/// known.
#[derive(Debug)]
pub struct Unsealed {
    path: PathBuf,
    layer: tar::Layer,
}

/// Has mkfs.erofs make the new file `path` of `tar`. What it needs besides is written beside the file.
/// The program is ended once `stop` returns true.
///
/// # Errors
/// [`Error::Tar`] where our reader refuses the tar, [`Error::Program`] where mkfs.erofs does, [`Error::Io`] if
/// a file operation fails.
pub fn read(tar: &mut impl BufRead, path: &Path, recipe: &Recipe, stop: Stop<'_>) -> Result<Unsealed, Error> {
    let (mode, build) = match recipe {
        Recipe::TarIndex(build) => (Mode::Index, build),
        Recipe::Mkfs(build) => (Mode::Whole, build),
        Recipe::Native | Recipe::Erofs => return Err(Error::Recipe),
    };
    match mode {
        Mode::Whole => {
            let layer = feed(tar, path, mode, build, stop, io::sink())?;
            Ok(Unsealed { path: path.to_owned(), layer })
        }
        Mode::Index => {
            let tar_path = path.with_file_name(TAR_NAME);
            let mut spool = create(&tar_path)?;
            let layer = feed(tar, path, mode, build, stop, &mut spool)?;
            append(path, &tar_path, tar, &mut spool)?;
            Ok(Unsealed { path: path.to_owned(), layer })
        }
    }
}

/// Gives the tar to the program, our own reader and `copy`, and waits for the program's end.
fn feed(
    tar: &mut impl BufRead,
    path: &Path,
    mode: Mode,
    build: &MkfsBuild,
    stop: Stop<'_>,
    copy: impl io::Write,
) -> Result<tar::Layer, Error> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut child = Child::start(arguments::of(mode, build, path), directory)?;
    let mut tee = Tee::new(tar, child.input(), copy);
    let read = tar::read_layer(&mut tee, &mut Discard::default(), &Limits::default());
    let copied = tee.finish();
    // Our own refusal names the entry, so it is the better reason, and nothing is left to wait for.
    let layer = read.map_err(Error::Tar)?;
    copied.map_err(Error::io("write the tar beside", path))?;
    child.end(stop)?;
    Ok(layer)
}

/// Adds the tar to the index: what our reader took of it, then what is left of the stream.
fn append(path: &Path, tar_path: &Path, rest: &mut impl BufRead, spool: &mut File) -> Result<(), Error> {
    io::copy(rest, spool).map_err(Error::io("write", tar_path))?;
    let tar = File::open(tar_path).map_err(Error::io("open", tar_path))?;
    let image = OpenOptions::new().append(true).open(path);
    let mut image = image.map_err(Error::io("open", path))?;
    io::copy(&mut &tar, &mut image).map_err(Error::io("append the tar to", path))?;
    std::fs::remove_file(tar_path).map_err(Error::io("remove", tar_path))
}

fn create(path: &Path) -> Result<File, Error> {
    let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path);
    file.map_err(Error::io("create", path))
}

impl Unsealed {
    /// Gives the image its UUID, checks it, adds a dm-verity tree if there is to be one, and waits until the
    /// file is on the disk.
    ///
    /// # Errors
    /// [`Error::Admission`] or [`Error::Disagreement`] if it is not what a layer may be, [`Error::Io`] if a file
    /// operation fails.
    pub fn seal(self, recipe: &Recipe, diff_id: &Digest, tree: HashTree) -> Result<Built, Error> {
        let Self { path, layer } = self;
        let identity = recipe.identity(diff_id);
        let file = OpenOptions::new().read(true).write(true).open(&path);
        let file = file.map_err(Error::io("open", &path))?;
        name(&file, &path, &identity)?;
        let (image, finished) = admission::finish(&path, file, tree, verity::uuid(&identity))?;
        agreement::check(&layer.tree, image.tree())?;
        let root = layer.root.as_ref().map(RootAttributes::of);
        let (image_bytes, verity) = (finished.bytes, finished.verity);
        Ok(Built { image_bytes, root, entries: layer.entries, verity })
    }
}

/// Gives the image the UUID of its layer, and the file the mode of layers: the program knows neither.
fn name(file: &File, path: &Path, identity: &Digest) -> Result<(), Error> {
    let mut first = [0; BLOCK_SIZE as usize];
    let length = file.metadata().map_err(Error::io("look at", path))?.len().min(BLOCK_SIZE);
    let block = first.get_mut(..length as usize).unwrap_or_default();
    file.read_exact_at(block, 0).map_err(Error::io("read", path))?;
    Superblock::replace_uuid(&mut first, erofs::uuid(identity))?;
    let block = first.get(..length as usize).unwrap_or_default();
    file.write_all_at(block, 0).map_err(Error::io("write", path))?;
    let mode = std::fs::Permissions::from_mode(FILE_MODE);
    file.set_permissions(mode).map_err(Error::io("set the mode of", path))
}
