//! Which layer is mounted under which name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nexuserofs_guest::verity::Parameters;

use super::corruption::REMEDY;
use super::integrity::{self, Device, Integrity, Mounted, Mounter};
use super::mounting::{self, Error, is_mount_point, make_point};
use super::{MountName, mountinfo};
use crate::layer::{LayerKey, Shelf};
use crate::store;

/// The layers that the daemon mounted, all in one directory.
#[derive(Debug)]
pub struct LayerMounts {
    directory: PathBuf,
    shelf: Shelf,
    mounter: Mounter,
    names: Mutex<Names>,
    /// Held by who mounts, so that nothing is mounted twice.
    mounting: Mutex<()>,
}

/// Names and layers, each with one of the other.
#[derive(Debug, Default)]
struct Names {
    layers: BTreeMap<MountName, LayerKey>,
    names: BTreeMap<LayerKey, MountName>,
    /// Layers that are checked while they are read, as far as they are mounted.
    checked: BTreeSet<MountName>,
}

/// What a plan needs mounted.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// The layer.
    pub layer: &'a LayerKey,
    /// Its name in the plan.
    pub name: &'a MountName,
    /// How it is to be mounted.
    pub integrity: Integrity,
}

/// A layer that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// What its bytes are checked by, if it has a hash tree.
    pub verity: Option<Parameters>,
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
            mounter: Mounter::default(),
            names: Mutex::default(),
            mounting: Mutex::default(),
        })
    }

    /// Takes over what an earlier daemon mounted. `planned` are the names that plans have given out;
    /// `known` tells of the layers that exist.
    ///
    /// A mount is right if it is of the layer that a plan says, and if it is checked, by that layer's
    /// parameters. One that no plan has is kept for plans to come, if it is of a layer that exists; every
    /// other is taken away, unless it is in use.
    ///
    /// # Errors
    /// If the kernel does not say what is mounted.
    pub fn adopt(
        &self,
        planned: impl IntoIterator<Item = (LayerKey, MountName)>,
        known: impl Fn(&LayerKey) -> Option<Known>,
    ) -> Result<Adoption, store::Error> {
        let mut names = self.names();
        for (layer, name) in planned {
            names.insert(layer, name);
        }
        let mut adoption = Adoption::default();
        for (point, shown) in self.mounted()? {
            let name = point.file_name().and_then(|name| name.to_str()?.parse().ok());
            let found = shown.zip(name);
            if found.is_some_and(|(shown, name)| names.adopt(shown, name, &known)) {
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
        integrity::remove_unused(self.shelf.path());
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

    /// Mounts these layers under these names, where they are not yet. One that is mounted unchecked, and must be
    /// checked now, is mounted anew.
    ///
    /// # Errors
    /// [`Error::NameTaken`]; if the kernel refuses; if there is no loop device or no dm-verity where one
    /// is needed; if a layer is in use that is to be mounted anew.
    pub fn ensure<'a>(&self, layers: impl IntoIterator<Item = Wanted<'a>>) -> Result<(), Error> {
        for wanted in layers {
            let point = self.point(wanted.name);
            if self.names().layers.get(wanted.name) != Some(wanted.layer) {
                return Err(Error::NameTaken { point, wanted: wanted.layer.clone() });
            }
            if !self.is_mounted(&wanted, &point)? {
                self.mount(&wanted, &point)?;
            }
        }
        Ok(())
    }

    /// Whether a layer is mounted as it is wanted.
    fn is_mounted(&self, wanted: &Wanted<'_>, point: &Path) -> Result<bool, store::Error> {
        let is_enough = match wanted.integrity {
            Integrity::Unchecked | Integrity::Preferred(_) => true,
            Integrity::Required(_) => self.names().checked.contains(wanted.name),
        };
        Ok(is_enough && is_mount_point(point)?)
    }

    /// Forgets a layer that is being removed. The directory that it may still be mounted on is
    /// the caller's to unmount and delete; its name is not given again before that.
    pub fn release(&self, layer: &LayerKey) -> Option<PathBuf> {
        let mut names = self.names();
        let name = names.names.remove(layer)?;
        names.layers.remove(&name);
        names.checked.remove(&name);
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

    fn mount(&self, wanted: &Wanted<'_>, point: &Path) -> Result<(), Error> {
        let _mounting = self.mounting.lock().unwrap_or_else(PoisonError::into_inner);
        make_point(point)?;
        if self.is_mounted(wanted, point)? {
            return Ok(());
        }
        mounting::unmount(point)?;
        let Wanted { layer, name, integrity } = wanted;
        // Whatever was known of an earlier mount is not true of this one.
        self.names().checked.remove(*name);
        let mounted = self.mounter.mount(&self.shelf.image(layer), point, layer, integrity)?;
        if mounted == Mounted::Checked {
            self.names().checked.insert((*name).clone());
        }
        Ok(())
    }

    /// The directory on which the layer of this name is mounted.
    pub fn point(&self, name: &MountName) -> PathBuf {
        self.directory.join(name.as_str())
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        // Each step leaves both maps in line, so a panic elsewhere does no harm.
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is mounted strictly below our directory, and what it shows. Of several mounts on one
    /// point the last counts, which hides the others.
    fn mounted(&self) -> Result<BTreeMap<PathBuf, Option<Shown>>, store::Error> {
        let entries = mountinfo::read()?.into_iter();
        let below = entries.filter(|entry| entry.point.parent() == Some(self.directory.as_path()));
        Ok(below.map(|entry| (entry.point.clone(), self.shown_by(&entry))).collect())
    }

    /// The layer that a mount shows, whether it is mounted from its file, from a loop device or through
    /// dm-verity.
    fn shown_by(&self, entry: &mountinfo::Entry) -> Option<Shown> {
        let (image, device) = match entry.source.strip_prefix("/dev") {
            Err(_) => (entry.source.clone(), None),
            Ok(node) => match Device::of_node(node.to_str()?) {
                Some(device) => (device.image.clone(), Some(device)),
                None => (backing_file(node)?, None),
            },
        };
        let key: LayerKey = image.parent()?.file_name()?.to_str()?.parse().ok()?;
        (entry.fstype == "erofs" && image == self.shelf.image(&key)).then_some(Shown { layer: key, device })
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

/// What a mount shows.
#[derive(Debug)]
struct Shown {
    layer: LayerKey,
    /// What checks it, if anything does.
    device: Option<Device>,
}

impl Shown {
    /// Whether it is checked by this layer's parameters, or not at all.
    fn is_right(&self, known: &Known) -> bool {
        match (&self.device, &known.verity) {
            (None, _) => true,
            (Some(device), Some(parameters)) => device.has(parameters),
            (Some(_), None) => false,
        }
    }
}

/// The file behind a loop device.
fn backing_file(device: &Path) -> Option<PathBuf> {
    let attribute = Path::new("/sys/block").join(device).join("loop/backing_file");
    Some(PathBuf::from(fs::read_to_string(attribute).ok()?.trim_end_matches('\n')))
}

impl Names {
    /// Takes over a mount of an earlier daemon, if it is right.
    fn adopt(&mut self, shown: Shown, name: MountName, known: impl Fn(&LayerKey) -> Option<Known>) -> bool {
        let is_known = known(&shown.layer).is_some_and(|known| shown.is_right(&known));
        let is_right = match self.layers.get(&name) {
            // A plan has it whether or not the layer is known: it may be one that is damaged.
            Some(planned) => *planned == shown.layer && (is_known || shown.device.is_none()),
            None => is_known && self.insert(shown.layer.clone(), name.clone()),
        };
        if let Some(device) = shown.device.filter(|_| is_right) {
            if device.is_corrupted() {
                tracing::error!(layer = %shown.layer, "a layer is not what its hash tree says: {REMEDY}");
            }
            self.checked.insert(name);
        }
        is_right
    }

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
