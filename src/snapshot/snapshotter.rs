//! The snapshotter: what containerd asks for, over the ledger of records.

use std::sync::Arc;
use std::time::SystemTime;

use super::index::Change;
use super::keyed::KeyedLocks;
use super::ledger::Ledger;
use super::record::{Active, Record, SnapshotId, State};
use super::recovery::{self, RecoveryReport};
use super::seal::Workshop;
use super::sealing::Sealing;
use super::settings::{Profile, SnapshotSettings};
use super::{Error, Info, LabelChange, Usage, exported, host};
use crate::expose::export::{Launch, place};
use crate::expose::mount::Mount;
use crate::expose::plan::Places;
use crate::layer::LayerKey;
use crate::layer::shelf::Found;
use crate::store::staging::StagingArea;
use crate::store::tree::DiskUsage;
use crate::store::{FileMedium, Medium};

/// Keeps snapshots. Cheap to clone; every method blocks, none for long but those that say so.
///
/// Each profile is a name space of its own. In it, keys of views and active snapshots and names of
/// committed ones share one space. An empty parent means none.
#[derive(Clone, Debug)]
pub struct Snapshotter {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) settings: SnapshotSettings,
    pub(super) texts: PlaceTexts,
    // Before the ledger: its threads use that, and end with it.
    pub(super) sealing: Sealing,
    pub(super) ledger: Arc<Ledger>,
    pub(super) staging: StagingArea,
    /// Held by who applies a layer to a snapshot.
    pub(super) applies: KeyedLocks<SnapshotId>,
    /// Held by who gives a layer its place.
    pub(super) publications: KeyedLocks<LayerKey>,
    /// Held by who merges a chain, whose turn it is.
    pub(super) mergers: KeyedLocks<u8>,
}

/// The directories that plans name, as text.
#[derive(Debug)]
pub(super) struct PlaceTexts {
    pub(super) snapshots: String,
    pub(super) layers: String,
    pub(super) chains: String,
    pub(super) empty: String,
    pub(super) mounts: String,
    pub(super) exports: String,
}

impl Snapshotter {
    /// Opens or makes what lies below the root directory, and repairs what a crash left there.
    ///
    /// # Errors
    /// If another process uses the root, a later release wrote it, or the disk fails. Damage is no error: it is repaired and reported.
    pub fn open(settings: SnapshotSettings) -> Result<(Self, RecoveryReport), Error> {
        Self::open_with(settings, Launch::beside_this_program())
    }

    /// The same, with the program that serves disks to virtual machines.
    ///
    /// # Errors
    /// As [`Snapshotter::open`].
    pub fn open_with(settings: SnapshotSettings, launch: Launch) -> Result<(Self, RecoveryReport), Error> {
        let database = Box::new(FileMedium(settings.root.as_path().join(recovery::DATABASE_NAME)));
        Self::open_all(settings, database, launch)
    }

    /// [`Snapshotter::open`] with the database in another place.
    #[cfg(test)]
    pub(crate) fn open_on(
        settings: SnapshotSettings,
        database: Box<dyn Medium>,
    ) -> Result<(Self, RecoveryReport), Error> {
        Self::open_all(settings, database, Launch::beside_this_program())
    }

    fn open_all(
        settings: SnapshotSettings,
        database: Box<dyn Medium>,
        launch: Launch,
    ) -> Result<(Self, RecoveryReport), Error> {
        let root = settings.root.as_str();
        let texts = PlaceTexts {
            snapshots: format!("{root}/snapshots"),
            layers: format!("{root}/layers"),
            chains: format!("{root}/chains"),
            empty: format!("{root}/{}", recovery::EMPTY_NAME),
            mounts: format!("{root}/{}", recovery::MOUNTS_NAME),
            exports: format!("{root}/{}", place::DIRECTORY),
        };
        let recovered = recovery::recover(&settings, database, launch)?;
        let ledger = Arc::new(recovered.ledger);
        let workshop = Workshop {
            ledger: Arc::clone(&ledger),
            staging: recovered.staging.clone(),
            hash_tree: settings.hash_tree(),
        };
        let sealing = Sealing::start(workshop)?;
        ledger
            .read(|index| index.unsealed().collect::<Vec<_>>())
            .into_iter()
            .for_each(|id| sealing.submit(id));
        let inner = Inner {
            texts,
            sealing,
            ledger,
            staging: recovered.staging,
            settings,
            applies: KeyedLocks::default(),
            publications: KeyedLocks::default(),
            mergers: KeyedLocks::default(),
        };
        Ok((Self { inner: Arc::new(inner) }, recovered.report))
    }

    /// The mounts of a view or an active snapshot: the same at every call. In the host flavour, what
    /// they name is mounted.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::NoMounts`] for a committed snapshot; [`Error::Host`]; [`Error::Tampered`].
    pub fn mounts(&self, profile: &str, key: &str) -> Result<Vec<Mount>, Error> {
        let record = self.record(profile, key)?;
        self.check_seals(&record)?;
        let mounts = self.plan(&record)?;
        host::attach(&self.inner.ledger, &record)?;
        Ok(mounts)
    }

    /// Removes a snapshot that no other stands on. Its files are deleted behind the caller's back.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::HasChildren`].
    pub fn remove(&self, profile: &str, key: &str) -> Result<(), Error> {
        let mut removed = None;
        self.inner.ledger.change(|index| {
            let record = index.existing(profile, key)?;
            removed = Some(Arc::clone(record));
            match index.children(record) {
                0 => Ok(vec![Change::RemoveSnapshot(record.id)]),
                children => Err(Error::HasChildren { key: key.to_owned(), children }),
            }
        })?;
        if let Some(record) = removed {
            self.inner.sealing.cancel(record.id);
            exported::detach(&self.inner.ledger, &record);
            self.inner.ledger.directories.lift(&record);
        }
        Ok(())
    }

    /// A snapshot.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn stat(&self, profile: &str, key: &str) -> Result<Info, Error> {
        Ok(self.record(profile, key)?.info())
    }

    /// Changes the labels of a snapshot and returns it as it is then.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn update(&self, profile: &str, name: &str, change: LabelChange) -> Result<Info, Error> {
        let mut info = None;
        self.inner.ledger.change(|index| {
            let record = index.existing(profile, name)?.relabelled(change, SystemTime::now());
            info = Some(record.info());
            Ok(vec![Change::UpdateSnapshot(Arc::new(record))])
        })?;
        info.ok_or_else(|| Error::NotFound { profile: profile.to_owned(), key: name.to_owned() })
    }

    /// All snapshots of a profile, by name.
    #[must_use]
    pub fn list(&self, profile: &str) -> Vec<Info> {
        let records: Vec<Arc<Record>> =
            self.inner.ledger.read(|index| index.of_profile(profile).map(Arc::clone).collect());
        records.iter().map(|record| record.info()).collect()
    }

    /// The snapshots whose plans have a layer, as `PROFILE/KEY`, those that stand on it included.
    #[must_use]
    pub fn users_of(&self, layer: &LayerKey) -> Vec<String> {
        let has_layer =
            |record: &&Arc<Record>| record.lower().is_some_and(|lower| lower.layers.contains(layer));
        let name = |record: &Arc<Record>| format!("{}/{}", record.profile, record.key);
        self.inner.ledger.read(|index| index.snapshots().filter(has_layer).map(name).collect())
    }

    /// Space that a snapshot takes, without its parents. For an active snapshot in directory mode
    /// the directory is walked. For a committed one whose layer is still to be made, it waits for that.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotSealed`], or if the files cannot be looked at.
    pub fn usage(&self, profile: &str, key: &str) -> Result<Usage, Error> {
        loop {
            if let Some(usage) = self.usage_of(&*self.record(profile, key)?)? {
                return Ok(usage);
            }
        }
    }

    /// Space that the snapshot of this record takes; None if the record is not the one that it has now.
    pub(super) fn usage_of(&self, record: &Record) -> Result<Option<Usage>, Error> {
        let ledger = &self.inner.ledger;
        let measured = match &record.state {
            State::View(_) => Ok(DiskUsage::default()),
            State::Committed(committed) => return Ok(Some(committed.usage)),
            State::Unsealed(_) => return self.inner.sealing.wait(record).map(|()| None),
            State::Active(Active { layer: Some(layer), .. }) => ledger.shelf.usage(layer),
            State::Active(active) => ledger.directories.usage(record.id, active.writable),
        };
        match measured {
            Ok(measured) => Ok(Some(measured.into())),
            // A snapshot that is removed or becomes a layer meanwhile takes its files along.
            Err(_) if !ledger.read(|index| index.by_id(record.id).is_some_and(|now| **now == *record)) => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until the files of all that was removed up to now are deleted.
    ///
    /// # Errors
    /// If something cannot be deleted, such as a directory in which a file system is mounted.
    pub fn cleanup(&self) -> Result<(), Error> {
        // What is being made of something that was removed would be deleted after this returned.
        self.inner.sealing.wait_for_cancelled();
        Ok(self.inner.ledger.trash.empty()?)
    }

    /// Ends the making of layers of what was written, which the next start goes on with, and with
    /// [`Error::Stopping`] the calls that wait for one. Everything else goes on.
    pub fn stop_sealing(&self) {
        self.inner.sealing.stop();
    }

    pub(super) fn record(&self, profile: &str, key: &str) -> Result<Arc<Record>, Error> {
        self.inner.ledger.read(|index| index.existing(profile, key).map(Arc::clone))
    }

    pub(super) fn plan(&self, record: &Record) -> Result<Vec<Mount>, Error> {
        let texts = &self.inner.texts;
        let snapshot = format!("{}/{}", texts.snapshots, record.id);
        let exports = format!("{}/{}", texts.exports, record.id);
        record.mounts(Places { exports: &exports, ..self.places(&snapshot) })
    }

    /// Where the files of plans lie, for the snapshot with this directory and no exports.
    pub(super) fn places<'a>(&'a self, snapshot: &'a str) -> Places<'a> {
        let PlaceTexts { layers, chains, empty, mounts, .. } = &self.inner.texts;
        Places { snapshot, layers, chains, empty, mounts, exports: "" }
    }

    /// Refuses to hand out a layer that was sealed with fs-verity and whose file is another one now.
    pub(super) fn check_seals(&self, record: &Record) -> Result<(), Error> {
        let ledger = &self.inner.ledger;
        if !ledger.shelf.protection().fsverity {
            return Ok(());
        }
        let keys = record.lower().map(|lower| lower.layers.as_slice()).unwrap_or_default();
        let layers: Vec<_> =
            ledger.read(|index| keys.iter().filter_map(|key| index.layer(key).cloned()).collect());
        for layer in layers {
            if let Found::Broken { reason } = ledger.shelf.measure(&layer) {
                return Err(Error::Tampered { layer: layer.key.clone(), reason });
            }
        }
        Ok(())
    }

    /// The settings of a profile that something new is asked for in.
    pub(super) fn profile(&self, profile: &str) -> Result<&Profile, Error> {
        let profiles = &self.inner.settings.profiles;
        profiles.get(profile).ok_or_else(|| Error::UnknownProfile {
            profile: profile.to_owned(),
            configured: profiles.keys().cloned().collect(),
        })
    }
}

impl From<DiskUsage> for Usage {
    fn from(usage: DiskUsage) -> Self {
        Self { bytes: usage.bytes, inodes: usage.inodes }
    }
}
