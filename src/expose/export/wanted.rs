//! The disks of a snapshot, as they are to be served.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use super::place::Owner;
use super::specification::{self, Contents, Disk, Files, Identity, Specification, VERSION};
use super::{Error, Place, Role};
use crate::config::LogSettings;
use crate::expose::device::{self, Chain, Layout};
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
    /// The merged metadata, `fsmeta.erofs`; none for layers that were not merged.
    pub metadata: Option<PathBuf>,
    /// The layers, the oldest first.
    pub layers: Vec<Layer>,
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
    /// If a file is not there, the layers cannot be a disk, or a socket cannot be made.
    pub fn open(
        &self,
        place: &Place,
        identity: Identity,
        log: LogSettings,
    ) -> Result<(Specification, Files), Error> {
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
            let contents =
                Contents::Block(open(path, OpenOptions::new().read(true).write(true), None, &mut files)?);
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
        let listener = files.add(place.listen(role)?);
        Ok(Disk { serial: role.serial().to_owned(), queues: self.queues, listener, contents })
    }
}

impl Image {
    fn open(&self, place: &Place, files: &mut Files) -> Result<Contents, Error> {
        let layers: Vec<PathBuf> = self.layers.iter().map(|layer| layer.path.clone()).collect();
        // Descriptors name files by their home, and there is none here.
        let chain = Chain { home: place.directory(), metadata: self.metadata.as_deref(), layers: &layers };
        let (map, paths) = device::lay_out(self.layout, chain)?;
        let mut opened = Vec::new();
        for path in &paths {
            let layer = self.layers.iter().find(|layer| layer.path == *path);
            let verity = layer.and_then(|layer| layer.verity);
            opened.push(open(path, OpenOptions::new().read(true), verity, files)?);
        }
        Ok(Contents::Image { extents: specification::extents(&map), files: opened })
    }
}

fn open(
    path: &Path,
    options: &OpenOptions,
    verity: Option<Verity>,
    files: &mut Files,
) -> Result<specification::File, Error> {
    let file: File = options.open(path).map_err(store::Error::io("open", path))?;
    Ok(specification::File { slot: files.add(file), path: path.to_owned(), verity })
}
