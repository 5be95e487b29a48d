//! From directory to directory: depth first, with one descriptor however deep.

use std::ffi::{CStr, CString, OsStr};
use std::mem;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType};

use super::Error;
use super::contents::Regular;
use super::data::Data;
use super::entry::{self, Entry, Identity};
use super::found::Found;
use super::xattr;
use crate::image::tree::{DeviceNumber, FileData, Inode, InodeId, Node, Tree};

/// A walk through a directory.
pub(super) struct Walk<'s, D> {
    data: D,
    stop: &'s dyn Fn() -> bool,
    found: Found,
}

/// A directory that the walk knows and has not entered yet.
struct Pending {
    /// Empty for the top.
    name: CString,
    id: InodeId,
    identity: Identity,
    /// Whether files in it can be whiteouts.
    holds_whiteouts: bool,
}

/// A directory on the way from the top to where the walk is.
struct Level {
    id: InodeId,
    identity: Identity,
    /// Its directories, the next one last.
    pending: Vec<Pending>,
}

impl<'s, D: Data> Walk<'s, D> {
    pub(super) fn new(data: D, stop: &'s dyn Fn() -> bool) -> Self {
        Self { data, stop, found: Found::default() }
    }

    /// Visits `top` and all below it.
    pub(super) fn run(mut self, top: OwnedFd) -> Result<Found, Error> {
        let top_path = || PathBuf::from("/");
        let again = top.try_clone().map_err(Error::io("open", &top_path))?;
        let root = self.add_directory(Tree::ROOT, c"", &Entry::new(again, &top_path)?)?;
        let mut here = self.enter(&top, &root)?;
        let mut directory = top;
        let mut above: Vec<Level> = Vec::new();
        loop {
            if let Some(next) = here.pending.pop() {
                directory = self.open_child(&directory, &next)?;
                let level = self.enter(&directory, &next)?;
                above.push(mem::replace(&mut here, level));
            } else {
                let Some(level) = above.pop() else { return Ok(self.found) };
                let path = || self.found.path_of(here.id);
                directory = entry::open_parent(&directory, level.identity, &path)?;
                here = level;
            }
        }
    }

    /// Opens a directory that was found before and must still be there.
    fn open_child(&self, directory: &OwnedFd, next: &Pending) -> Result<OwnedFd, Error> {
        let path = || self.found.path_of(next.id);
        match Entry::find(directory, next.name.as_c_str(), &path)? {
            Some(entry) if entry.identity() == next.identity => {
                Ok(entry.open().map_err(Error::io("open", &path))?.into())
            }
            _ => Err(Error::Moved { path: path() }),
        }
    }

    /// Adds all that is in a directory to the tree, by name.
    fn enter(&mut self, directory: &OwnedFd, this: &Pending) -> Result<Level, Error> {
        let names = names(directory, &|| self.found.path_of(this.id))?;
        let mut pending = Vec::new();
        for name in names {
            if (self.stop)() {
                return Err(Error::Stopped);
            }
            let path = || child_path(&self.found, this.id, &name);
            // A name that went away since was not part of what is read.
            let Some(entry) = Entry::find(directory, name.as_c_str(), &path)? else { continue };
            match entry.file_type() {
                FileType::Directory => pending.push(self.add_directory(this.id, &name, &entry)?),
                _ => self.add_file(this, &name, &entry)?,
            }
        }
        pending.reverse();
        Ok(Level { id: this.id, identity: this.identity, pending })
    }

    /// Adds a directory without what is in it.
    fn add_directory(&mut self, parent: InodeId, name: &CStr, entry: &Entry) -> Result<Pending, Error> {
        let path = || child_path(&self.found, parent, name);
        let mut xattrs = entry.xattrs(&path)?;
        let holds_whiteouts = xattr::take_whiteouts_mark(&mut xattrs);
        let inode = entry.inode(xattrs, &path)?;
        let id = self.found.add(parent, name, inode, None)?;
        Ok(Pending { name: name.to_owned(), id, identity: entry.identity(), holds_whiteouts })
    }

    /// Adds anything else, or a further name of it.
    fn add_file(&mut self, directory: &Pending, name: &CStr, entry: &Entry) -> Result<(), Error> {
        if self.found.link(directory.id, name, entry.identity())? {
            return Ok(());
        }
        let path = || child_path(&self.found, directory.id, name);
        let (inode, regular) = read_file(entry, directory.holds_whiteouts, &mut self.data, &path)?;
        let id = self.found.add(directory.id, name, inode, regular)?;
        if entry.stat.st_nlink > 1 {
            self.found.expect_links(entry.identity(), id);
        }
        Ok(())
    }
}

/// Reads anything but a directory, and what is to be known to read a regular file's data again.
fn read_file(
    entry: &Entry,
    can_be_whiteout: bool,
    data: &mut impl Data,
    path: &dyn Fn() -> PathBuf,
) -> Result<(Inode, Option<Regular>), Error> {
    let mut xattrs = entry.xattrs(path)?;
    let is_marked = xattr::take_whiteout(&mut xattrs);
    let mut inode = entry.inode(xattrs, path)?;
    let Node::Regular(content) = &mut inode.node else { return Ok((inode, None)) };
    let size = entry.size();
    if size == 0 && is_marked && can_be_whiteout {
        inode.node = Node::CharacterDevice(DeviceNumber::default());
        return Ok((inode, None));
    }
    *content = if size == 0 { FileData::default() } else { data.take(entry, path)? };
    Ok((inode, Some(Regular { identity: entry.identity(), size })))
}

/// The names in a directory, in byte order.
fn names(directory: &OwnedFd, path: &dyn Fn() -> PathBuf) -> Result<Vec<CString>, Error> {
    let entries = Dir::read_from(directory).map_err(Error::io("read", path))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::io("read", path))?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The path of an entry, from the top. The top's own name is empty.
fn child_path(found: &Found, directory: InodeId, name: &CStr) -> PathBuf {
    let directory = found.path_of(directory);
    match name.is_empty() {
        true => directory,
        false => directory.join(Path::new(OsStr::from_bytes(name.to_bytes()))),
    }
}
