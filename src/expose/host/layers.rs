//! Which layer, or which merged layers, are mounted under which name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nexuserofs_guest::verity::Parameters;

use super::corruption::REMEDY;
use super::integrity::{self, Device, Integrity, Mounted, Mounter};
use super::mounting::{self, Error, is_mount_point, make_point};
use super::{MountName, Subject, mountinfo};
use crate::layer::chain::{self, ChainKey};
use crate::layer::{LayerKey, Shelf};
use crate::store;

/// The layers that the daemon mounted, one by one or merged, all in one directory.
#[derive(Debug)]
pub struct LayerMounts {
    directory: PathBuf,
    shelf: Shelf,
    chains: PathBuf,
    mounter: Mounter,
    names: Mutex<Names>,
    /// Held by who mounts, so that nothing is mounted twice.
    mounting: Mutex<()>,
}

/// Names and what is mounted under them, each with one of the other.
#[derive(Debug, Default)]
struct Names {
    subjects: BTreeMap<MountName, Subject>,
    names: BTreeMap<Subject, MountName>,
    /// Layers that are checked while they are read, as far as they are mounted.
    checked: BTreeSet<MountName>,
}

/// What a plan needs mounted.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// What that is.
    pub what: What<'a>,
    /// Its name in the plan.
    pub name: &'a MountName,
}

/// What can be mounted, with what that takes.
#[derive(Clone, Debug)]
pub enum What<'a> {
    /// A layer, and how it is to be mounted.
    Layer(&'a LayerKey, Integrity),
    /// Merged layers, and these one by one, the newest first.
    Chain(&'a ChainKey, &'a [LayerKey]),
}

impl What<'_> {
    fn subject(&self) -> Subject {
        match self {
            Self::Layer(layer, _) => Subject::Layer((*layer).clone()),
            Self::Chain(chain, _) => Subject::Chain((*chain).clone()),
        }
    }

    const fn must_be_checked(&self) -> bool {
        matches!(self, Self::Layer(_, Integrity::Required(_)))
    }
}

/// A layer, or merged layers, that exist.
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
    /// Mounts the layers that lie in `layers`, and the chains that lie in `chains`, on names in `directory`.
    /// All three exist.
    ///
    /// # Errors
    /// If one of them does not exist.
    pub fn open(directory: &Path, layers: &Path, chains: &Path) -> Result<Self, store::Error> {
        // As the kernel will name them, which knows no symbolic links.
        let real = |path: &Path| fs::canonicalize(path).map_err(store::Error::io("resolve", path));
        Ok(Self {
            directory: real(directory)?,
            shelf: Shelf::new(real(layers)?),
            chains: real(chains)?,
            mounter: Mounter::default(),
            names: Mutex::default(),
            mounting: Mutex::default(),
        })
    }

    /// Takes over what an earlier daemon mounted. `planned` are the names that plans have given out;
    /// `known` tells of the layers and chains that exist.
    ///
    /// A mount is right if it is of what a plan says, and if it is checked, by that layer's
    /// parameters. One that no plan has is kept for plans to come, if it is of something that exists; every
    /// other is taken away, unless it is in use.
    ///
    /// # Errors
    /// If the kernel does not say what is mounted.
    pub fn adopt(
        &self,
        planned: impl IntoIterator<Item = (Subject, MountName)>,
        known: impl Fn(&Subject) -> Option<Known>,
    ) -> Result<Adoption, store::Error> {
        let mut names = self.names();
        for (subject, name) in planned {
            names.insert(subject, name);
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

    /// The names of these images: those that they have, or new ones.
    ///
    /// # Errors
    /// If the kernel has no random numbers yet.
    pub fn names_of(&self, subjects: &[Subject]) -> Result<Vec<MountName>, store::Error> {
        let mut names = self.names();
        subjects.iter().map(|subject| names.name_of(subject, &self.directory)).collect()
    }

    /// Whether these images have these names. Names change when a layer is removed and made again.
    #[must_use]
    pub fn are_current(&self, subjects: &[Subject], current: &[MountName]) -> bool {
        let names = self.names();
        subjects.iter().zip(current).all(|(subject, name)| names.names.get(subject) == Some(name))
    }

    /// Mounts what is wanted under its names, where they are not yet. One that is mounted unchecked, and must be
    /// checked now, is mounted anew on top of that.
    ///
    /// # Errors
    /// [`Error::NameTaken`]; if the kernel refuses; if there is no loop device or no dm-verity where one
    /// is needed.
    pub fn ensure<'a>(&self, wanted: impl IntoIterator<Item = Wanted<'a>>) -> Result<(), Error> {
        for wanted in wanted {
            let (point, subject) = (self.point(wanted.name), wanted.what.subject());
            if self.names().subjects.get(wanted.name) != Some(&subject) {
                return Err(Error::NameTaken { point, wanted: subject });
            }
            if !self.is_mounted(&wanted, &point)? {
                self.mount(&wanted, &point)?;
            }
        }
        Ok(())
    }

    /// Whether something is mounted as it is wanted.
    fn is_mounted(&self, wanted: &Wanted<'_>, point: &Path) -> Result<bool, store::Error> {
        let is_enough = !wanted.what.must_be_checked() || self.names().checked.contains(wanted.name);
        Ok(is_enough && is_mount_point(point)?)
    }

    /// Forgets a layer or a chain that is being removed. The directory that it may still be mounted on is
    /// the caller's to unmount and delete; its name is not given again before that.
    pub fn release(&self, subject: &Subject) -> Option<PathBuf> {
        let mut names = self.names();
        let name = names.names.remove(subject)?;
        names.subjects.remove(&name);
        names.checked.remove(&name);
        Some(self.point(&name))
    }

    /// Unmounts a layer whose file is being replaced. It is mounted again when a plan needs it.
    ///
    /// # Errors
    /// If it is in use.
    pub fn unmount(&self, subject: &Subject) -> Result<(), store::Error> {
        let name = self.names().names.get(subject).cloned();
        name.map_or(Ok(()), |name| mounting::unmount(&self.point(&name)))
    }

    fn mount(&self, wanted: &Wanted<'_>, point: &Path) -> Result<(), Error> {
        let _mounting = self.mounting.lock().unwrap_or_else(PoisonError::into_inner);
        make_point(point)?;
        if self.is_mounted(wanted, point)? {
            return Ok(());
        }
        let Wanted { what, name } = wanted;
        // An unchecked mount is hidden by the checked one and goes with it: taken away first, a container that
        // starts meanwhile would find an empty layer. Whatever was known of it is not true of the new one.
        self.names().checked.remove(*name);
        let image = self.image(&what.subject());
        let mounted = match what {
            What::Layer(layer, integrity) => self.mounter.mount(&image, point, layer, integrity)?,
            What::Chain(_, layers) => {
                // In a device table the oldest is first.
                let files: Vec<_> = layers.iter().rev().map(|layer| self.shelf.image(layer)).collect();
                self.mounter.mount_merged(&image, &files, point)?
            }
        };
        if mounted == Mounted::Checked {
            self.names().checked.insert((*name).clone());
        }
        Ok(())
    }

    fn image(&self, subject: &Subject) -> PathBuf {
        match subject {
            Subject::Layer(layer) => self.shelf.image(layer),
            Subject::Chain(chain) => self.chains.join(chain.as_str()).join(chain::shelf::IMAGE_NAME),
        }
    }

    /// The directory on which what has this name is mounted.
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

    /// What a mount shows, whether it is mounted from its file, from a loop device or through
    /// dm-verity.
    fn shown_by(&self, entry: &mountinfo::Entry) -> Option<Shown> {
        let (image, device) = match entry.source.strip_prefix("/dev") {
            Err(_) => (entry.source.clone(), None),
            Ok(node) => match Device::of_node(node.to_str()?) {
                Some(device) => (device.image.clone(), Some(device)),
                None => (backing_file(node)?, None),
            },
        };
        let subject: Subject = image.parent()?.file_name()?.to_str()?.parse().ok()?;
        (entry.fstype == "erofs" && image == self.image(&subject)).then_some(Shown { subject, device })
    }

    /// Deletes the directories that nothing is mounted on and that no plan names.
    fn remove_unused_points(&self) {
        let names = self.names();
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let name: Option<MountName> = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if name.is_some_and(|name| !names.subjects.contains_key(&name)) {
                // The kernel refuses what is mounted on or not empty.
                let _ = fs::remove_dir(entry.path());
            }
        }
    }
}

/// What a mount shows.
#[derive(Debug)]
struct Shown {
    subject: Subject,
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
    fn adopt(&mut self, shown: Shown, name: MountName, known: impl Fn(&Subject) -> Option<Known>) -> bool {
        let is_known = known(&shown.subject).is_some_and(|known| shown.is_right(&known));
        let is_right = match self.subjects.get(&name) {
            // A plan has it whether or not the layer is known: it may be one that is damaged.
            Some(planned) => *planned == shown.subject && (is_known || shown.device.is_none()),
            None => is_known && self.insert(shown.subject.clone(), name.clone()),
        };
        if let Some(device) = shown.device.filter(|_| is_right) {
            if device.is_corrupted() {
                tracing::error!(layer = %shown.subject, "a layer is not what its hash tree says: {REMEDY}");
            }
            self.checked.insert(name);
        }
        is_right
    }

    /// Gives an image a name, if neither of them has another.
    fn insert(&mut self, subject: Subject, name: MountName) -> bool {
        let is_free = !self.names.contains_key(&subject) && !self.subjects.contains_key(&name);
        if is_free {
            self.subjects.insert(name.clone(), subject.clone());
            self.names.insert(subject, name);
        }
        is_free
    }

    fn name_of(&mut self, subject: &Subject, directory: &Path) -> Result<MountName, store::Error> {
        if let Some(name) = self.names.get(subject) {
            return Ok(name.clone());
        }
        loop {
            let name = MountName::random().map_err(store::Error::io("name a directory in", directory))?;
            // A directory that is there may still be the mount of what was removed.
            if !directory.join(name.as_str()).exists() && self.insert(subject.clone(), name.clone()) {
                return Ok(name);
            }
        }
    }
}
