//! The data of regular files, read after the tree.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;

use super::entry::{self, Identity};
use crate::image::tree::{Contents, InodeId, Tree};

/// Longest path that is looked up at once, in bytes: below Linux's `PATH_MAX`.
const STRETCH: usize = 4000;

/// Where an inode was found first.
#[derive(Debug)]
pub(super) struct Place {
    /// The directory that names it; the root's is itself.
    pub(super) parent: InodeId,
    /// Its name there; the root's is empty.
    pub(super) name: CString,
    /// What is read of it, if it is a regular file.
    pub(super) file: Option<Regular>,
}

/// A regular file as it was when the tree was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Regular {
    pub(super) identity: Identity,
    /// Size in bytes.
    pub(super) size: u64,
}

/// The data of a directory's files, by the inodes of its tree.
#[derive(Debug)]
pub struct UpperContents {
    top: OwnedFd,
    places: Vec<Place>,
}

impl UpperContents {
    pub(super) const fn new(top: OwnedFd, places: Vec<Place>) -> Self {
        Self { top, places }
    }

    fn regular(&self, inode: InodeId) -> Option<Regular> {
        self.places.get(inode.0 as usize)?.file
    }

    /// The names that lead to an inode, from the root.
    fn names(&self, inode: InodeId) -> Vec<&[u8]> {
        let mut names = Vec::new();
        let mut id = inode;
        while let Some(place) = self.places.get(id.0 as usize).filter(|_| id != Tree::ROOT) {
            names.push(place.name.as_bytes());
            id = place.parent;
        }
        names.reverse();
        names
    }

    fn open_file(&self, names: &[&[u8]]) -> io::Result<File> {
        let stretches = stretches(names);
        let Some((last, above)) = stretches.split_last() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let mut directory: Option<OwnedFd> = None;
        for stretch in above {
            let from: BorrowedFd<'_> = directory.as_ref().map_or(self.top.as_fd(), AsFd::as_fd);
            directory = Some(entry::open_below(from, stretch, OFlags::PATH | OFlags::DIRECTORY)?);
        }
        let from = directory.as_ref().map_or(self.top.as_fd(), AsFd::as_fd);
        Ok(File::from(entry::open_below(from, last, OFlags::RDONLY | OFlags::NONBLOCK)?))
    }
}

impl Contents for UpperContents {
    /// As the trait says. A file that was replaced since the tree was read is an error; one that was cut
    /// short reads as zeros from there, so that it always has the size in the tree.
    fn open(&self, inode: InodeId) -> io::Result<Box<dyn Read + '_>> {
        let regular = self.regular(inode).ok_or(io::ErrorKind::InvalidInput)?;
        let file = self.open_file(&self.names(inode))?;
        let stat = rustix::fs::fstat(&file)?;
        if (stat.st_dev, stat.st_ino) != regular.identity {
            return Err(io::Error::other("it was replaced by another file while the directory was read"));
        }
        Ok(Box::new(file.chain(io::repeat(0)).take(regular.size)))
    }
}

/// Joins names to paths that are short enough to be looked up.
fn stretches(names: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut stretches: Vec<Vec<u8>> = Vec::new();
    for name in names {
        match stretches.last_mut() {
            Some(last) if last.len() + 1 + name.len() <= STRETCH => {
                last.push(b'/');
                last.extend_from_slice(name);
            }
            _ => stretches.push(name.to_vec()),
        }
    }
    stretches
}
