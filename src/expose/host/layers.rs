//! Which layer is mounted under which name.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::mounting::{self, Error, LayerMounter, is_mount_point, make_point};
use super::{MountName, mountinfo};
use crate::layer::{LayerKey, Shelf};
use crate::store;

/// The layers that the daemon mounted, all in one directory.
#[derive(Debug)]
pub struct LayerMounts {
    directory: PathBuf,
    shelf: Shelf,
    mounter: LayerMounter,
    names: Mutex<Names>,
    /// Held by who mounts, so that nothing is mounted twice.
    mounting: Mutex<()>,
}

/// Names and layers, each with one of the other.
#[derive(Debug, Default)]
struct Names {
    layers: BTreeMap<MountName, LayerKey>,
    names: BTreeMap<LayerKey, MountName>,
}

/// What became of the mounts that were there at a start.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Adoption {
    /// Layers that are mounted as they should be.
    pub adopted: usize,
    /// Mounts that nothing needed and that were taken away.
    pub unmounted: usize,
    /// Mounts that nothing needs and that somebody uses.
    pub busy: Vec<PathBuf>,
}

impl LayerMounts {
    /// Mounts the layers that lie in `layers` on names in `directory`. Both exist.
    ///
    /// # Errors
    /// If one of them does not exist.
    pub fn open(directory: &Path, layers: &Path) -> Result<Self, store::Error> {
        // As the kernel will name them, which knows no symbolic links.
        let real = |path: &Path| fs::canonicalize(path).map_err(store::Error::io("resolve", path));
        Ok(Self {
            directory: real(directory)?,
            shelf: Shelf::new(real(layers)?),
            mounter: LayerMounter::default(),
            names: Mutex::default(),
            mounting: Mutex::default(),
        })
    }

    /// Takes over what an earlier daemon mounted. `planned` are the names that plans have given out;
    /// `exists` says whether there is such a layer.
    ///
    /// A mount is right if it is of the layer that a plan says. One that no plan has is kept for plans
    /// to come, if it is of a layer that exists; every other is taken away, unless it is in use.
    ///
    /// # Errors
    /// If the kernel does not say what is mounted.
    pub fn adopt(
        &self,
        planned: impl IntoIterator<Item = (LayerKey, MountName)>,
        exists: impl Fn(&LayerKey) -> bool,
    ) -> Result<Adoption, store::Error> {
        let mut names = self.names();
        for (layer, name) in planned {
            names.insert(layer, name);
        }
        let mut adoption = Adoption::default();
        for (point, layer) in self.mounted()? {
            let name = point.file_name().and_then(|name| name.to_str()?.parse().ok());
            let is_right = layer.zip(name).is_some_and(|(layer, name)| match names.layers.get(&name) {
                Some(planned) => *planned == layer,
                None => exists(&layer) && names.insert(layer, name),
            });
            if is_right {
                adoption.adopted += 1;
                continue;
            }
            match mounting::unmount(&point) {
                Ok(()) => adoption.unmounted += 1,
                Err(error) => {
                    tracing::warn!(%error, "a mount that nothing needs stays");
                    adoption.busy.push(point);
                }
            }
        }
        drop(names);
        self.remove_unused_points();
        Ok(adoption)
    }

    /// The names of these layers: those that they have, or new ones.
    ///
    /// # Errors
    /// If the kernel has no random numbers yet.
    pub fn names_of(&self, layers: &[LayerKey]) -> Result<Vec<MountName>, store::Error> {
        let mut names = self.names();
        layers.iter().map(|layer| names.name_of(layer, &self.directory)).collect()
    }

    /// Whether these layers have these names. Names change when a layer is removed and made again.
    #[must_use]
    pub fn are_current(&self, layers: &[LayerKey], current: &[MountName]) -> bool {
        let names = self.names();
        layers.iter().zip(current).all(|(layer, name)| names.names.get(layer) == Some(name))
    }

    /// Mounts these layers under these names, where they are not yet.
    ///
    /// # Errors
    /// [`Error::NameTaken`]; if the kernel refuses; if there is no loop device where one is needed.
    pub fn ensure<'a>(
        &self,
        layers: impl IntoIterator<Item = (&'a LayerKey, &'a MountName)>,
    ) -> Result<(), Error> {
        for (layer, name) in layers {
            let point = self.point(name);
            if self.names().layers.get(name) != Some(layer) {
                return Err(Error::NameTaken { point, wanted: layer.clone() });
            }
            if !is_mount_point(&point)? {
                self.mount(layer, &point)?;
            }
        }
        Ok(())
    }

    /// Forgets a layer that is being removed. The directory that it may still be mounted on is
    /// the caller's to unmount and delete; its name is not given again before that.
    pub fn release(&self, layer: &LayerKey) -> Option<PathBuf> {
        let mut names = self.names();
        let name = names.names.remove(layer)?;
        names.layers.remove(&name);
        Some(self.point(&name))
    }

    /// Unmounts a layer whose file is being replaced. It is mounted again when a plan needs it.
    ///
    /// # Errors
    /// If it is in use.
    pub fn unmount(&self, layer: &LayerKey) -> Result<(), store::Error> {
        let name = self.names().names.get(layer).cloned();
        name.map_or(Ok(()), |name| mounting::unmount(&self.point(&name)))
    }

    fn mount(&self, layer: &LayerKey, point: &Path) -> Result<(), Error> {
        let _mounting = self.mounting.lock().unwrap_or_else(PoisonError::into_inner);
        make_point(point)?;
        if is_mount_point(point)? {
            return Ok(());
        }
        self.mounter.mount(&self.shelf.image(layer), point)
    }

    /// The directory on which the layer of this name is mounted.
    pub fn point(&self, name: &MountName) -> PathBuf {
        self.directory.join(name.as_str())
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        // Each step leaves both maps in line, so a panic elsewhere does no harm.
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is mounted strictly below our directory, and of which layer it is. Of several mounts on one
    /// point the last counts, which hides the others.
    fn mounted(&self) -> Result<BTreeMap<PathBuf, Option<LayerKey>>, store::Error> {
        let entries = mountinfo::read()?.into_iter();
        let below = entries.filter(|entry| entry.point.parent() == Some(self.directory.as_path()));
        Ok(below.map(|entry| (entry.point.clone(), self.layer_of(&entry))).collect())
    }

    /// The layer that a mount shows, whether it is mounted from its file or from a loop device.
    fn layer_of(&self, entry: &mountinfo::Entry) -> Option<LayerKey> {
        let image = match entry.source.strip_prefix("/dev") {
            Ok(device) => backing_file(device)?,
            Err(_) => entry.source.clone(),
        };
        let key: LayerKey = image.parent()?.file_name()?.to_str()?.parse().ok()?;
        (entry.fstype == "erofs" && image == self.shelf.image(&key)).then_some(key)
    }

    /// Deletes the directories that nothing is mounted on and that no plan names.
    fn remove_unused_points(&self) {
        let names = self.names();
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let name: Option<MountName> = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if name.is_some_and(|name| !names.layers.contains_key(&name)) {
                // The kernel refuses what is mounted on or not empty.
                let _ = fs::remove_dir(entry.path());
            }
        }
    }
}

/// The file behind a loop device.
fn backing_file(device: &Path) -> Option<PathBuf> {
    let attribute = Path::new("/sys/block").join(device).join("loop/backing_file");
    Some(PathBuf::from(fs::read_to_string(attribute).ok()?.trim_end_matches('\n')))
}

impl Names {
    /// Gives a layer a name, if neither of them has another.
    fn insert(&mut self, layer: LayerKey, name: MountName) -> bool {
        let is_free = !self.names.contains_key(&layer) && !self.layers.contains_key(&name);
        if is_free {
            self.layers.insert(name.clone(), layer.clone());
            self.names.insert(layer, name);
        }
        is_free
    }

    fn name_of(&mut self, layer: &LayerKey, directory: &Path) -> Result<MountName, store::Error> {
        if let Some(name) = self.names.get(layer) {
            return Ok(name.clone());
        }
        loop {
            let name = MountName::random().map_err(store::Error::io("name a directory in", directory))?;
            // A directory that is there may still be the mount of a layer that was removed.
            if !directory.join(name.as_str()).exists() && self.insert(layer.clone(), name.clone()) {
                return Ok(name);
            }
        }
    }
}
