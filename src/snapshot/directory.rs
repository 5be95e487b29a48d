//! What lies on disk for a snapshot: `ROOT/snapshots/ID`.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::record::{Active, Record, SnapshotId, State};
use super::stock::Stock;
use crate::expose::block::{self, BlockTemplates};
use crate::expose::host::mounting;
use crate::expose::overlay::{self, Owner};
use crate::expose::plan::{
    BLOCK_MOUNT_NAME, BLOCK_NAME, BLOCK_UPPER_NAME, Flavour, Lower, SHIFTED_NAME, UPPER_NAME, WORK_NAME,
    Writable,
};
use crate::expose::quota::ProjectQuotas;
use crate::layer::RootAttributes;
use crate::store::Error;
use crate::store::sidecar::{self, Durability};
use crate::store::staging::{Scratch, StagingArea};
use crate::store::tree::{self, DiskUsage};

/// A snapshot's record, in its directory.
pub(super) const RECORD_NAME: &str = "snapshot.json";

/// What an active snapshot has beyond its record; nothing of it is needed once it is committed. The
/// mount point comes before what is mounted on it.
pub(super) const WRITABLE_NAMES: [&str; 5] =
    [UPPER_NAME, WORK_NAME, SHIFTED_NAME, BLOCK_MOUNT_NAME, BLOCK_NAME];

/// The directories of all snapshots.
#[derive(Debug)]
pub(super) struct Directories {
    path: PathBuf,
    pub(super) stock: Stock,
    pub(super) quotas: ProjectQuotas,
}

/// What lies in the directory of a new snapshot. Owners are those on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Nothing but the record.
    Record,
    /// An empty directory, where there are no layers below.
    Upper(RootAttributes),
    /// Overlay's upper and work directory.
    UpperAndWork(RootAttributes, Owner),
    /// A writable block of this many bytes with these directories.
    Block(u64, RootAttributes, Owner),
}

impl Content {
    /// What a snapshot in this state starts with, on layers that give `/` these attributes. None if
    /// it writes to a block, whose size the state does not hold, or is to become a layer, which must not
    /// be an empty one.
    pub(super) fn without_block(state: &State, root: &RootAttributes) -> Option<Self> {
        let upper = |lower: &Lower| Self::Upper(on_host(lower, &RootAttributes::PLAIN));
        match state {
            State::Committed(_) => Some(Self::Record),
            State::Unsealed(_) => None,
            State::View(lower) if lower.is_bare() => Some(upper(lower)),
            State::View(_) => Some(Self::Record),
            State::Active(Active { writable: Writable::Block, .. }) => None,
            State::Active(Active { writable: Writable::Staged, .. }) => Some(Self::Record),
            State::Active(Active { lower, .. }) if lower.is_bare() => Some(upper(lower)),
            State::Active(Active { lower, writable: Writable::Extraction, .. }) => {
                Some(Self::UpperAndWork(on_host(lower, &RootAttributes::PLAIN), owner(lower)))
            }
            State::Active(Active { lower, writable: Writable::Directory, .. }) => {
                Some(Self::UpperAndWork(on_host(lower, root), owner(lower)))
            }
        }
    }

    /// A writable block of `size` bytes on these layers, which give `/` the attributes `root`.
    pub(super) fn block(size: u64, lower: &Lower, root: &RootAttributes) -> Self {
        Self::Block(size, on_host(lower, root), owner(lower))
    }

    /// A new directory in `area` with this in it, and with room for a record.
    ///
    /// # Errors
    /// If it cannot be made, or a block cannot be formatted.
    pub(super) fn fill(
        &self,
        templates: &BlockTemplates,
        area: &StagingArea,
    ) -> Result<Scratch, super::Error> {
        let scratch = area.scratch()?;
        let directory = scratch.path();
        match self {
            Self::Record => {}
            Self::Upper(root) => overlay::create_upper(&directory.join(UPPER_NAME), root)?,
            Self::UpperAndWork(root, owner) => {
                overlay::create_upper(&directory.join(UPPER_NAME), root)?;
                overlay::create_work(&directory.join(WORK_NAME), *owner)?;
            }
            Self::Block(size, root, owner) => {
                templates.create(&directory.join(BLOCK_NAME), *size, root, *owner, directory)?;
            }
        }
        sidecar::reserve(&directory.join(RECORD_NAME))?;
        Ok(scratch)
    }
}

fn on_host(lower: &Lower, root: &RootAttributes) -> RootAttributes {
    lower.mapping.as_ref().map_or_else(|| root.clone(), |mapping| mapping.root_on_host(root))
}

/// The container's root.
fn owner(lower: &Lower) -> Owner {
    let mapping = lower.mapping.as_ref();
    mapping.map_or(Owner::ROOT, |mapping| Owner { uid: mapping.uids.root(), gid: mapping.gids.root() })
}

impl Directories {
    /// Uses `path`, an existing directory.
    pub(super) fn new(path: PathBuf, stock: Stock) -> Self {
        let quotas = ProjectQuotas::new(path.clone());
        Self { path, stock, quotas }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The writable block of a snapshot.
    pub(super) fn block(&self, id: SnapshotId) -> PathBuf {
        self.of(id).join(BLOCK_NAME)
    }

    /// Whether that is there which a snapshot writes to.
    pub(super) fn has_written(&self, id: SnapshotId, writable: Writable) -> bool {
        match writable {
            Writable::Extraction | Writable::Directory => self.of(id).join(UPPER_NAME).exists(),
            Writable::Staged => false,
            Writable::Block => self.block(id).exists(),
        }
    }

    /// Opens the directory that a snapshot writes to.
    pub(super) fn open_upper(&self, id: SnapshotId) -> Result<OwnedFd, Error> {
        let upper = self.of(id).join(UPPER_NAME);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(&upper, flags, Mode::empty()).map_err(Error::io("open", &upper))
    }

    pub(super) fn of(&self, id: SnapshotId) -> PathBuf {
        self.path.join(id.to_string())
    }

    /// Makes a directory for a new snapshot, out of sight.
    pub(super) fn build(
        &self,
        record: &Record,
        content: &Content,
        staging: &StagingArea,
    ) -> Result<Scratch, super::Error> {
        let scratch = self.stock.take(content, staging)?;
        let directory = scratch.path();
        self.limit(record, content, directory)?;
        sidecar::fill(&directory.join(RECORD_NAME), record)?;
        Ok(scratch)
    }

    /// Puts a limit on the directories that were just made, if the record says so.
    fn limit(&self, record: &Record, content: &Content, directory: &Path) -> Result<(), Error> {
        let (upper, work) = (directory.join(UPPER_NAME), directory.join(WORK_NAME));
        match (record.quota(), content) {
            (Some(quota), Content::Upper(_)) => self.quotas.limit(quota, &[&upper]),
            (Some(quota), Content::UpperAndWork(..)) => self.quotas.limit(quota, &[&upper, &work]),
            _ => Ok(()),
        }
    }

    /// Takes the limit of a snapshot away to which nobody writes any more.
    pub(super) fn lift(&self, record: &Record) {
        let lifted = record.quota().map_or(Ok(()), |quota| self.quotas.lift(quota));
        if let Err(error) = lifted {
            tracing::warn!(%error, "the limit of a snapshot stays in the file system's list");
        }
    }

    /// Writes the record into the snapshot's directory again.
    pub(super) fn write_record(&self, record: &Record) -> Result<(), Error> {
        sidecar::write(&self.of(record.id).join(RECORD_NAME), record, Durability::Relaxed)
    }

    /// The record in a snapshot's directory.
    pub(super) fn read_record(&self, id: SnapshotId) -> Result<Record, Error> {
        sidecar::read(&self.of(id).join(RECORD_NAME))
    }

    /// Refuses an active snapshot that somebody wrote to. Two or three system calls, however much
    /// was written. What is not there was not written.
    pub(super) fn check_unwritten(&self, record: &Record) -> Result<(), super::Error> {
        let directory = self.of(record.id);
        let active = record.active()?;
        let mounted = directory.join(BLOCK_MOUNT_NAME);
        let written = match (active.writable, &active.lower.flavour) {
            (Writable::Extraction | Writable::Staged | Writable::Directory, _) => {
                has_entries(&directory.join(UPPER_NAME))
            }
            // We mounted it ourselves, so what counts is what is in it.
            (Writable::Block, Flavour::Host { .. }) if mounting::is_mount_point(&mounted)? => {
                has_entries(&directory.join(BLOCK_UPPER_NAME))
            }
            (Writable::Block, _) => block::was_mounted(&directory.join(BLOCK_NAME)),
        };
        match written {
            Ok(true) => Err(super::Error::Written { key: record.key.clone() }),
            Err(error) if !error.is_not_found() => Err(error.into()),
            Ok(false) | Err(_) => Ok(()),
        }
    }

    /// Space that the files of an active snapshot take.
    pub(super) fn usage(&self, id: SnapshotId, writable: Writable) -> Result<DiskUsage, Error> {
        match writable {
            Writable::Extraction | Writable::Staged | Writable::Directory => {
                tree::disk_usage(&self.of(id).join(UPPER_NAME))
            }
            Writable::Block => {
                let block = self.block(id);
                let stat = rustix::fs::stat(&block).map_err(Error::io("look at", &block))?;
                Ok(DiskUsage::of_inode(&stat))
            }
        }
    }
}

fn has_entries(directory: &Path) -> Result<bool, Error> {
    let first = fs::read_dir(directory).and_then(|mut entries| entries.next().transpose());
    first.map(|entry| entry.is_some()).map_err(Error::io("read", directory))
}
