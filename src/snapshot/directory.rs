//! What lies on disk for a snapshot: `ROOT/snapshots/ID`.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;

use super::record::{Record, SnapshotId};
use crate::expose::block::BlockTemplates;
use crate::expose::plan::{BLOCK_NAME, UPPER_NAME, WORK_NAME, Writable};
use crate::layer::RootAttributes;
use crate::store::Error;
use crate::store::sidecar::{self, Durability};
use crate::store::staging::{Scratch, StagingArea};
use crate::store::tree::{self, DiskUsage};

const RECORD_NAME: &str = "snapshot.json";

/// What an active snapshot has beyond its record; nothing of it is needed once it is committed.
pub(super) const WRITABLE_NAMES: [&str; 3] = [UPPER_NAME, WORK_NAME, BLOCK_NAME];

/// The mode that containerd's own snapshotters give overlay's work directory.
const WORK_MODE: u32 = 0o711;

/// The directories of all snapshots.
#[derive(Debug)]
pub(super) struct Directories {
    path: PathBuf,
    templates: BlockTemplates,
}

/// What is to be made for a new snapshot.
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
            Content::Upper(root) => make_upper(&directory.join(UPPER_NAME), root)?,
            Content::UpperAndWork(root) => {
                make_upper(&directory.join(UPPER_NAME), root)?;
                make_directory(&directory.join(WORK_NAME), WORK_MODE)?;
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

    /// Whether files were written to the upper directory of an active snapshot.
    pub(super) fn is_written(&self, id: SnapshotId) -> Result<bool, Error> {
        let upper = self.of(id).join(UPPER_NAME);
        let first = fs::read_dir(&upper).and_then(|mut entries| entries.next().transpose());
        first.map(|entry| entry.is_some()).map_err(Error::io("read", &upper))
    }

    /// Space that the files of an active snapshot take.
    pub(super) fn usage(&self, id: SnapshotId, writable: Writable) -> Result<DiskUsage, Error> {
        match writable {
            Writable::Extraction | Writable::Directory => tree::disk_usage(&self.of(id).join(UPPER_NAME)),
            Writable::Block => {
                let block = self.of(id).join(BLOCK_NAME);
                let stat = rustix::fs::stat(&block).map_err(Error::io("look at", &block))?;
                Ok(DiskUsage::of_inode(&stat))
            }
        }
    }
}

/// Makes a directory with exactly this mode, whatever the umask.
fn make_directory(path: &Path, mode: u32) -> Result<(), Error> {
    DirBuilder::new().mode(0o700).create(path).map_err(Error::io("create", path))?;
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(Error::io("change the mode of", path))
}

/// Makes the directory whose attributes overlay shows as those of `/`.
fn make_upper(path: &Path, root: &RootAttributes) -> Result<(), Error> {
    make_directory(path, 0o700)?;
    let directory = File::open(path).map_err(Error::io("open", path))?;
    let made = directory.metadata().map_err(Error::io("look at", path))?;
    if (made.uid(), made.gid()) != (root.uid, root.gid) {
        fchown(&directory, Some(root.uid), Some(root.gid)).map_err(Error::io("change the owner of", path))?;
    }
    for (name, value) in &root.xattrs {
        set_xattr(&directory, path, name, value)?;
    }
    // Last, because a change of owner clears setuid and setgid.
    let mode = Permissions::from_mode(u32::from(root.mode) & 0o7777);
    directory.set_permissions(mode).map_err(Error::io("change the mode of", path))
}

/// Sets an attribute, or says in the log that the file system under the root directory cannot hold it.
fn set_xattr(directory: &File, path: &Path, name: &[u8], value: &[u8]) -> Result<(), Error> {
    match rustix::fs::fsetxattr(directory, name, value, XattrFlags::empty()) {
        Err(rustix::io::Errno::OPNOTSUPP) => {
            let name = String::from_utf8_lossy(name);
            tracing::warn!(path = %path.display(), %name, "the file system does not hold this attribute of /");
            Ok(())
        }
        result => {
            result.map_err(|errno| Error::io("set an extended attribute of", path)(io::Error::from(errno)))
        }
    }
}
