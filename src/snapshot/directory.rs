//! What lies on disk for a snapshot: `ROOT/snapshots/ID`.

use std::fs;
use std::path::{Path, PathBuf};

use super::record::{Active, Record, SnapshotId, State};
use crate::expose::block::{self, BlockTemplates};
use crate::expose::overlay;
use crate::expose::plan::{BLOCK_NAME, UPPER_NAME, WORK_NAME, Writable};
use crate::layer::RootAttributes;
use crate::store::Error;
use crate::store::sidecar::{self, Durability};
use crate::store::staging::{Scratch, StagingArea};
use crate::store::tree::{self, DiskUsage};

const RECORD_NAME: &str = "snapshot.json";

/// What an active snapshot has beyond its record; nothing of it is needed once it is committed.
pub(super) const WRITABLE_NAMES: [&str; 3] = [UPPER_NAME, WORK_NAME, BLOCK_NAME];

/// The directories of all snapshots.
#[derive(Debug)]
pub(super) struct Directories {
    path: PathBuf,
    templates: BlockTemplates,
}

/// What lies in the directory of a new snapshot.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content<'a> {
    /// Nothing but the record.
    Record,
    /// An empty directory, where there are no layers below.
    Upper(&'a RootAttributes),
    /// Overlay's upper and work directory.
    UpperAndWork(&'a RootAttributes),
    /// A writable block of this many bytes.
    Block(u64, &'a RootAttributes),
}

impl<'a> Content<'a> {
    /// What a snapshot in this state starts with, on layers that give `/` these attributes. None if
    /// it writes to a block, whose size the state does not hold.
    pub(super) fn without_block(state: &State, root: &'a RootAttributes) -> Option<Self> {
        const PLAIN: &RootAttributes = &RootAttributes::PLAIN;
        match state {
            State::Committed(_) => Some(Self::Record),
            State::View(lower) if lower.layers.is_empty() => Some(Self::Upper(PLAIN)),
            State::View(_) => Some(Self::Record),
            State::Active(Active { writable: Writable::Block, .. }) => None,
            State::Active(Active { writable: Writable::Staged, .. }) => Some(Self::Record),
            State::Active(Active { lower, .. }) if lower.layers.is_empty() => Some(Self::Upper(PLAIN)),
            State::Active(Active { writable: Writable::Extraction, .. }) => Some(Self::UpperAndWork(PLAIN)),
            State::Active(Active { writable: Writable::Directory, .. }) => Some(Self::UpperAndWork(root)),
        }
    }
}

impl Directories {
    /// Uses `path`, an existing directory.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, templates: BlockTemplates::new() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn of(&self, id: SnapshotId) -> PathBuf {
        self.path.join(id.to_string())
    }

    /// Fills a directory for a new snapshot, out of sight.
    pub(super) fn build(
        &self,
        record: &Record,
        content: Content<'_>,
        staging: &StagingArea,
    ) -> Result<Scratch, super::Error> {
        let scratch = staging.scratch()?;
        let directory = scratch.path();
        match content {
            Content::Record => {}
            Content::Upper(root) => overlay::create_upper(&directory.join(UPPER_NAME), root)?,
            Content::UpperAndWork(root) => {
                overlay::create_upper(&directory.join(UPPER_NAME), root)?;
                overlay::create_work(&directory.join(WORK_NAME))?;
            }
            Content::Block(size, root) => {
                self.templates.create(&directory.join(BLOCK_NAME), size, root, directory)?;
            }
        }
        sidecar::write(&directory.join(RECORD_NAME), record, Durability::Relaxed)?;
        Ok(scratch)
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
        let written = match record.active()?.writable {
            Writable::Extraction | Writable::Directory => has_entries(&directory.join(UPPER_NAME)),
            Writable::Block => block::was_mounted(&directory.join(BLOCK_NAME)),
            Writable::Staged => return Ok(()),
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
            Writable::Extraction | Writable::Directory => tree::disk_usage(&self.of(id).join(UPPER_NAME)),
            Writable::Staged => Ok(DiskUsage::default()),
            Writable::Block => {
                let block = self.of(id).join(BLOCK_NAME);
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
