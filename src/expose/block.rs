//! Writable blocks: fixed-size ext4 files that a snapshot writes to.
//!
//! mkfs.ext4 runs once for a size and root directory. What it wrote, a few dozen blocks of
//! metadata, is kept in memory, and a new writable block is a sparse file with those blocks and a
//! UUID and owners of its own.
//!
//! What was written to one is read through a mount of our own (`mounted`).
//!
//! The file system has no backup superblock and keeps its checksum seed apart from its UUID
//! (`metadata_csum_seed`), so a new UUID changes one block only, and owners one more. Its feature set is written out
//! here, since a guest's kernel may be older than the host's e2fsprogs: Linux 4.4 mounts it.

mod ext4;
mod mounted;
mod owners;

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{SeekFrom, seek};

pub use mounted::{Holder, MountedBlock, is_held, reserve};

use super::overlay::{self, Owner};
use crate::config::WritableLayer;
use crate::error::{Classify, Kind, io_kind};
use crate::layer::RootAttributes;
use crate::store;
use crate::store::unique::Unique;

/// Block size of the file system, and the unit of a writable block's size, in bytes.
const BLOCK_SIZE: u64 = 4096;

/// Mode of a writable block's file: only root reads what a container wrote.
const FILE_MODE: u32 = 0o600;

/// Templates kept in memory; each is some hundred KiB. Nodes use few sizes ([`rounded_size`] sees to
/// that), and few images have a root directory of their own kind.
const MAX_TEMPLATES: usize = 32;

const FEATURES: &str = "none,has_journal,ext_attr,dir_index,sparse_super2,filetype,extent,64bit,flex_bg,\
                        large_file,huge_file,dir_nlink,extra_isize,metadata_csum,metadata_csum_seed";

/// `num_backup_sb=0`: see the module. `assume_storage_prezeroed`: the file is sparse, so inode
/// tables are zero already and the kernel must not zero them again after the first mount.
const EXTENDED: &str =
    "num_backup_sb=0,nodiscard,lazy_itable_init=0,lazy_journal_init=1,assume_storage_prezeroed=1";

/// Makes writable blocks, and keeps the templates that they are made from.
#[derive(Debug, Default)]
pub struct BlockTemplates {
    /// The one that was used last at the end.
    templates: Mutex<VecDeque<(Shape, Slot)>>,
}

/// Where a template is kept once it is made.
type Slot = Arc<Mutex<Option<Template>>>;

/// Why a writable block cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] store::Error),
    /// mkfs.ext4 cannot be started.
    #[error("cannot run mkfs.ext4: install e2fsprogs 1.47 or newer")]
    Start(#[source] io::Error),
    /// mkfs.ext4 refused.
    #[error("mkfs.ext4 cannot format a writable block of {size} bytes ({status}): {stderr}")]
    Format {
        /// Size of the block in bytes.
        size: u64,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it said.
        stderr: String,
    },
    /// What mkfs.ext4 wrote has no superblock where one must be.
    #[error("mkfs.ext4 wrote no superblock for a writable block of {size} bytes")]
    NoSuperblock {
        /// Size of the block in bytes.
        size: u64,
    },
    /// The kernel does not mount it.
    #[error("cannot mount writable block {path:?} to read it: {source}; check it with e2fsck -n")]
    Mount {
        /// The block.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::File(error) => error.kind(),
            Self::Start(_) => Kind::FailedPrecondition,
            Self::Format { .. } | Self::NoSuperblock { .. } => Kind::Internal,
            Self::Mount { source, .. } => io_kind(source),
        }
    }
}

/// What a template is made for. The root directory's owner is not part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shape {
    size: u64,
    root: RootAttributes,
}

/// The blocks that mkfs.ext4 wrote, as runs of bytes at their offsets.
#[derive(Debug)]
struct Template {
    runs: Vec<(u64, Vec<u8>)>,
    /// The inodes of `upper` and `work`.
    directories: [owners::Place; 2],
}

impl BlockTemplates {
    /// An empty set of templates.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates the writable block `path` of `size` bytes, rounded up to 4096, with the directories
    /// `upper`, which has the attributes `root`, and `work`, which belongs to `owner`. mkfs.ext4 needs
    /// `scratch`, an existing directory on a file system with extended attributes.
    ///
    /// Nothing is synchronised: what a container writes need not outlive the machine.
    ///
    /// # Errors
    /// [`Error::File`] where `path` exists or cannot be written, and what formatting reports the
    /// first time that a size is used.
    pub fn create(
        &self,
        path: &Path,
        size: u64,
        root: &RootAttributes,
        owner: Owner,
        scratch: &Path,
    ) -> Result<(), Error> {
        let size = size.next_multiple_of(BLOCK_SIZE);
        let upper = Owner { uid: root.uid, gid: root.gid };
        let root = RootAttributes { uid: 0, gid: 0, ..root.clone() };
        let slot = self.slot(Shape { size, root: root.clone() });
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let template = match slot.take() {
            Some(template) => slot.insert(template),
            None => slot.insert(Template::format(size, &root, scratch)?),
        };
        Ok(template.write(path, size, [upper, owner]).map_err(store::Error::io("write", path))?)
    }

    /// The place of a template; held locked while it is made, so that mkfs.ext4 runs once.
    fn slot(&self, shape: Shape) -> Slot {
        let mut templates = self.templates.lock().unwrap_or_else(PoisonError::into_inner);
        let known = templates.iter().position(|(known, _)| *known == shape);
        let used = known.and_then(|index| templates.remove(index));
        if used.is_none() && templates.len() == MAX_TEMPLATES {
            // The least recently used: images choose the attributes of `/`, and rare ones must not push
            // out what all others share.
            templates.pop_front();
        }
        let used = used.unwrap_or_else(|| (shape, Slot::default()));
        let slot = Arc::clone(&used.1);
        templates.push_back(used);
        slot
    }
}

impl Template {
    fn format(size: u64, root: &RootAttributes, scratch: &Path) -> Result<Self, Error> {
        let unique = Unique::new().map_err(store::Error::io("name a directory in", scratch))?;
        let directory = scratch.join(format!("mkfs-{unique}"));
        let result = Self::format_in(&directory, size, root);
        let removed = fs::remove_dir_all(&directory);
        let template = result?;
        removed.map_err(store::Error::io("remove", &directory))?;
        Ok(template)
    }

    fn format_in(directory: &Path, size: u64, root: &RootAttributes) -> Result<Self, Error> {
        let (content, image) = (directory.join("content"), directory.join("image"));
        fs::create_dir_all(&content).map_err(store::Error::io("create", &content))?;
        overlay::create_upper(&content.join("upper"), &without_oversized(root))?;
        overlay::create_work(&content.join("work"), Owner::ROOT)?;
        let file = File::create_new(&image).map_err(store::Error::io("create", &image))?;
        file.set_len(size).map_err(store::Error::io("set the size of", &image))?;
        make_file_system(&content, &image, size)?;
        let runs = written_runs(&file, size).map_err(store::Error::io("read", &image))?;
        let directories = owners::find(&file, ["upper", "work"]).map_err(store::Error::io("read", &image))?;
        match runs.first() {
            Some((0, first)) if first.len() >= ext4::SUPERBLOCK_END => Ok(Self { runs, directories }),
            _ => Err(Error::NoSuperblock { size }),
        }
    }

    /// Writes a file system whose `upper` and `work` have these owners.
    fn write(&self, path: &Path, size: u64, owners: [Owner; 2]) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
        file.set_len(size)?;
        for (offset, bytes) in &self.runs {
            let own = self.own(*offset, bytes, owners)?;
            file.write_all_at(own.as_deref().unwrap_or(bytes), *offset)?;
        }
        Ok(())
    }

    /// A run with what is different in each file system. None if nothing is.
    fn own(&self, offset: u64, bytes: &[u8], owners: [Owner; 2]) -> io::Result<Option<Vec<u8>>> {
        let mut own = None;
        if offset == 0 {
            ext4::set_uuid(own.get_or_insert_with(|| bytes.to_vec()), Unique::new()?);
        }
        for (place, owner) in self.directories.iter().zip(owners).filter(|(_, owner)| *owner != Owner::ROOT) {
            let within = place.offset.checked_sub(offset).and_then(|start| usize::try_from(start).ok());
            let Some(start) = within.filter(|start| *start < bytes.len()) else { continue };
            let own = own.get_or_insert_with(|| bytes.to_vec());
            owners::give(own.get_mut(start..).unwrap_or_default(), *place, owner);
        }
        Ok(own)
    }
}

/// The size in bytes of the writable block for who asks for `size`: up to a thirty-second part more.
/// Clients ask for any size, and each needs a template of its own.
#[must_use]
pub fn rounded_size(size: u64) -> u64 {
    let step = (size.next_power_of_two() / 64).max(1 << 20);
    size.next_multiple_of(step).min(WritableLayer::LARGEST)
}

/// Whether the writable block `path` was ever mounted writable, by this host or by a guest.
///
/// # Errors
/// If it cannot be read.
pub fn was_mounted(path: &Path) -> Result<bool, store::Error> {
    File::open(path).and_then(|file| ext4::was_mounted(&file)).map_err(store::Error::io("read", path))
}

/// The attributes of `/` that mkfs.ext4 can copy; it fails on the first that it has no room for.
fn without_oversized(root: &RootAttributes) -> RootAttributes {
    let mut root = root.clone();
    for name in ext4::take_oversized(&mut root.xattrs) {
        let name = name.escape_ascii();
        tracing::warn!(%name, "an attribute of / is left out: it does not fit into a writable block");
    }
    root
}

fn make_file_system(content: &Path, image: &Path, size: u64) -> Result<(), Error> {
    let output = Command::new("mkfs.ext4")
        // The host's own defaults must not leak into what guests get.
        .env("MKE2FS_CONFIG", "/dev/null")
        .args(["-q", "-F", "-b", "4096", "-I", "256", "-m", "0", "-O", FEATURES, "-E", EXTENDED, "-d"])
        .args([content, image])
        .output()
        .map_err(Error::Start)?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Format { size, status: output.status, stderr })
}

/// The blocks of a sparse file that are not zero, neighbours joined.
fn written_runs(file: &File, size: u64) -> io::Result<Vec<(u64, Vec<u8>)>> {
    let mut runs: Vec<(u64, Vec<u8>)> = Vec::new();
    let mut block = vec![0; BLOCK_SIZE as usize];
    let mut offset = 0;
    while let Some(data) = next_data(file, offset)? {
        offset = data - data % BLOCK_SIZE;
        let end = seek(file, SeekFrom::Hole(data))?.min(size);
        while offset < end {
            file.read_exact_at(&mut block, offset)?;
            if block.iter().any(|byte| *byte != 0) {
                match runs.last_mut() {
                    Some((start, bytes)) if *start + bytes.len() as u64 == offset => bytes.extend(&block),
                    _ => runs.push((offset, block.clone())),
                }
            }
            offset += BLOCK_SIZE;
        }
    }
    Ok(runs)
}

fn next_data(file: &File, offset: u64) -> io::Result<Option<u64>> {
    match seek(file, SeekFrom::Data(offset)) {
        Ok(data) => Ok(Some(data)),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
