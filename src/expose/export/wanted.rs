//! The disks of a snapshot, as they are to be served.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use super::place::Owner;
use super::specification::{
    self, Apart, Contents, Disk, File, Files, Identity, Slot, Specification, Tree, VERSION,
};
use super::{Error, Place, Role, Running};
use crate::config::LogSettings;
use crate::expose::device::{self, Chain, Layout};
use crate::image::extent::ExtentMap;
use crate::layer::chain::shelf;
use crate::layer::verity::Verity;
use crate::store;

/// The disks of a snapshot, as they are to be served.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Whose they are, for people.
    pub owner: Owner,
    /// All layers as one disk; none without layers.
    pub image: Option<Image>,
    /// The file that changes go to, if there are any.
    pub writable: Option<PathBuf>,
    /// Queues of each disk.
    pub queues: u16,
}

/// An image that becomes one disk.
#[derive(Clone, Debug)]
pub struct Image {
    /// How the layers lie on it.
    pub layout: Layout,
    /// The merged metadata; none for layers that were not merged.
    pub metadata: Option<Metadata>,
    /// The layers, the oldest first.
    pub layers: Vec<Layer>,
}

/// The merged metadata of an image's layers.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// Its file, `fsmeta.erofs`.
    pub path: PathBuf,
    /// The tree over it and all layers, which lies in `merged.verity` beside it: its blocks are checked against that when
    /// the guest reads them, if they are to be.
    pub verity: Option<Verity>,
}

/// A layer of such an image.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Its file.
    pub path: PathBuf,
    /// The tree that its blocks are checked against when the guest reads them, if they are to be.
    pub verity: Option<Verity>,
}

impl Wanted {
    /// Opens everything, listens, and writes down what a process is to do with it.
    ///
    /// # Errors
    /// If another process serves there, a file is not there, the layers cannot be a disk, or a socket cannot be made.
    pub fn open(
        &self,
        place: &Place,
        identity: Identity,
        log: LogSettings,
    ) -> Result<(Specification, Files), Error> {
        if Running::find(place)?.is_some() {
            return Err(Error::Served { path: place.directory().to_owned() });
        }
        place.create()?;
        place.write_owner(&self.owner)?;
        let mut files = Files::default();
        let lock = files.add(place.create_lock()?);
        let tally = files.add(place.create_tally()?);
        let mut disks = Vec::new();
        if let Some(image) = &self.image {
            let contents = image.open(place, &mut files)?;
            disks.push(self.disk(Role::Image, contents, place, &mut files)?);
        }
        if let Some(path) = &self.writable {
            let slot = open(path, OpenOptions::new().read(true).write(true), &mut files)?;
            let contents = Contents::Block(File { slot, path: path.clone(), tree: None });
            disks.push(self.disk(Role::Writable, contents, place, &mut files)?);
        }
        let count = files.remaining().len();
        Ok((Specification { version: VERSION, files: count, lock, tally, identity, log, disks }, files))
    }

    /// The disks that are served.
    pub(super) fn roles(&self) -> impl Iterator<Item = Role> {
        let image = self.image.is_some().then_some(Role::Image);
        image.into_iter().chain(self.writable.is_some().then_some(Role::Writable))
    }

    fn disk(&self, role: Role, contents: Contents, place: &Place, files: &mut Files) -> Result<Disk, Error> {
        // Opened for each: locks are those of what was opened.
        let connected = files.add(place.create_connected()?);
        let listener = files.add(place.listen(role)?);
        Ok(Disk { serial: role.serial().to_owned(), queues: self.queues, listener, connected, contents })
    }
}

impl Image {
    fn open(&self, place: &Place, files: &mut Files) -> Result<Contents, Error> {
        let layers: Vec<PathBuf> = self.layers.iter().map(|layer| layer.path.clone()).collect();
        let metadata = self.metadata.as_ref().map(|metadata| metadata.path.as_path());
        // Descriptors name files by their home, and there is none here.
        let chain = Chain { home: place.directory(), metadata, layers: &layers };
        let (map, paths) = device::lay_out(self.layout, chain)?;
        self.check_tree(&map)?;
        self.log_unchecked(place);
        let mut opened = Vec::new();
        for path in paths {
            let slot = open(&path, OpenOptions::new().read(true), files)?;
            let tree = self.tree(&path, files)?;
            opened.push(File { slot, path, tree });
        }
        Ok(Contents::Image { extents: specification::extents(&map), files: opened })
    }

    /// What the blocks of one of the files are checked against.
    fn tree(&self, path: &Path, files: &mut Files) -> Result<Option<Tree>, Error> {
        if let Some(Metadata { verity: Some(verity), .. }) =
            self.metadata.as_ref().filter(|metadata| metadata.path == path)
        {
            let path = path.with_file_name(shelf::TREE_NAME);
            let slot = open(&path, OpenOptions::new().read(true), files)?;
            return Ok(Some(Tree { verity: *verity, apart: Some(Apart { slot, path }) }));
        }
        let layer = self.layers.iter().find(|layer| layer.path == *path);
        Ok(layer.and_then(|layer| layer.verity).map(|verity| Tree { verity, apart: None }))
    }

    /// The tree over merged metadata is one over all layers, too.
    fn check_tree(&self, map: &ExtentMap) -> Result<(), Error> {
        let Some(Metadata { path, verity: Some(verity) }) = &self.metadata else { return Ok(()) };
        let (covered, bytes) = (verity.image_size(), map.length());
        if covered == bytes { Ok(()) } else { Err(Error::OtherLayers { path: path.clone(), covered, bytes }) }
    }

    /// Says what is served unchecked of an image of which something is checked.
    fn log_unchecked(&self, place: &Place) {
        let without = self.layers.iter().filter(|layer| layer.verity.is_none()).count();
        let is_metadata_without = self.metadata.as_ref().is_some_and(|metadata| metadata.verity.is_none());
        if without < self.layers.len() && (without > 0 || is_metadata_without) {
            let (export, layers) = (place.directory().display(), self.layers.len());
            tracing::warn!(
                %export, layers, without, is_metadata_without,
                "not all that the guest reads is checked: these layers have no hash tree, and with one of them the merged \
                 metadata has none; pull the image again with a profile that makes trees"
            );
        }
    }
}

fn open(path: &Path, options: &OpenOptions, files: &mut Files) -> Result<Slot, Error> {
    Ok(files.add(options.open(path).map_err(store::Error::io("open", path))?))
}
