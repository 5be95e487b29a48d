//! One thing in a directory, as an inode.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use rustix::path::Arg;

use super::Error;
use super::xattr::{self, Xattrs};
use crate::image::tree::{DeviceNumber, Directory, FileData, Inode, Metadata, Node, Timestamp};

/// How entries are opened: nothing in a path may lead out of the tree.
const RESOLVE: ResolveFlags = ResolveFlags::NO_XDEV
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::BENEATH);

/// Device and inode number.
pub(super) type Identity = (u64, u64);

/// Something in a directory, held by a descriptor that neither reads nor writes it. So a device is not
/// touched, and what is looked at stays the same thing.
#[derive(Debug)]
pub(super) struct Entry {
    place: OwnedFd,
    pub(super) stat: Stat,
}

impl Entry {
    /// Finds `name` in `directory`. None if it is gone since the directory was read.
    pub(super) fn find(
        directory: impl AsFd,
        name: impl Arg,
        path: &dyn Fn() -> PathBuf,
    ) -> Result<Option<Self>, Error> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat2(directory, name, flags, Mode::empty(), RESOLVE) {
            Ok(place) => Self::new(place, path).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::XDEV) => Err(Error::Mounted { path: path() }),
            Err(error) => Err(Error::io("open", path)(error)),
        }
    }

    /// The thing that a descriptor is open on.
    pub(super) fn new(place: OwnedFd, path: &dyn Fn() -> PathBuf) -> Result<Self, Error> {
        let stat = rustix::fs::fstat(&place).map_err(Error::io("look at", path))?;
        Ok(Self { place, stat })
    }

    pub(super) fn identity(&self) -> Identity {
        (self.stat.st_dev, self.stat.st_ino)
    }

    pub(super) fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// Size in bytes.
    pub(super) fn size(&self) -> u64 {
        u64::try_from(self.stat.st_size).unwrap_or(0)
    }

    /// Opens the thing itself for reading.
    pub(super) fn open(&self) -> io::Result<File> {
        // Not by its name, which may be another's by now.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Ok(File::from(rustix::fs::open(self.proc_path(), flags, Mode::empty())?))
    }

    pub(super) fn xattrs(&self, path: &dyn Fn() -> PathBuf) -> Result<Xattrs, Error> {
        xattr::read(&self.proc_path()).map_err(Error::io("read the extended attributes of", path))
    }

    /// The entry as an inode without data and without entries. `xattrs` are its own.
    pub(super) fn inode(&self, xattrs: Xattrs, path: &dyn Fn() -> PathBuf) -> Result<Inode, Error> {
        let stat = &self.stat;
        let device = || DeviceNumber {
            major: rustix::fs::major(stat.st_rdev),
            minor: rustix::fs::minor(stat.st_rdev),
        };
        let node = match self.file_type() {
            FileType::Directory => Node::Directory(Directory::default()),
            FileType::RegularFile => Node::Regular(FileData::default()),
            FileType::Symlink => Node::Symlink(self.target().map_err(Error::io("read the link", path))?),
            FileType::CharacterDevice => Node::CharacterDevice(device()),
            FileType::BlockDevice => Node::BlockDevice(device()),
            FileType::Fifo => Node::Fifo,
            FileType::Socket => Node::Socket,
            FileType::Unknown => return Err(Error::io("tell the type of", path)(Errno::INVAL)),
        };
        Ok(Inode { metadata: self.metadata(xattrs), node })
    }

    fn metadata(&self, xattrs: Xattrs) -> Metadata {
        let stat = &self.stat;
        Metadata {
            mode: (stat.st_mode & 0o7777) as u16,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: Timestamp { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 },
            xattrs,
        }
    }

    fn target(&self) -> io::Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(&self.place, c"", Vec::new())?.into_bytes())
    }

    /// A path that leads to the thing whatever it is. Calls on extended attributes take no descriptor
    /// like ours before Linux 6.13.
    fn proc_path(&self) -> String {
        format!("/proc/self/fd/{}", self.place.as_raw_fd())
    }
}

/// Opens what `path` below `directory` names, and nothing outside of it.
pub(super) fn open_below(directory: impl AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(directory, path, flags, Mode::empty(), RESOLVE)
}

/// Opens the directory above `child`, which must be this one: a directory that is moved during the
/// walk would lead it out of the tree.
pub(super) fn open_parent(
    child: impl AsFd,
    expected: Identity,
    path: &dyn Fn() -> PathBuf,
) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = rustix::fs::openat(child, c"..", flags, Mode::empty());
    let parent = Entry::new(parent.map_err(Error::io("open the directory of", path))?, path)?;
    if parent.identity() == expected { Ok(parent.place) } else { Err(Error::Moved { path: path() }) }
}
