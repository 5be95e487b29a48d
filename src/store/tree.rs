//! Walks of directory trees by descriptor: removal, and disk usage.
//!
//! A walk holds one descriptor however deep the tree is, follows no symbolic link and enters no
//! mount. A container can make its tree as deep and as strange as it likes, and change it meanwhile.

use std::collections::HashSet;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use rustix::path::Arg;

use super::{Error, immutable};

/// Space that a tree takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Allocated bytes: blocks of 512 bytes as `st_blocks` counts them.
    pub bytes: u64,
    /// Inodes, the top directory included. A file with several links counts once.
    pub inodes: u64,
}

impl DiskUsage {
    /// What one inode takes.
    #[must_use]
    pub fn of_inode(stat: &Stat) -> Self {
        Self { bytes: u64::try_from(stat.st_blocks).unwrap_or(0) * 512, inodes: 1 }
    }

    fn add(&mut self, stat: &Stat) {
        let one = Self::of_inode(stat);
        self.bytes += one.bytes;
        self.inodes += one.inodes;
    }
}

/// The space that the tree at `top` takes, without what is mounted in it. What disappears during
/// the walk is not counted.
///
/// # Errors
/// If a directory cannot be read, or is moved while it is read.
pub fn disk_usage(top: &Path) -> Result<DiskUsage, Error> {
    let directory = open_directory(top)?;
    let mut counter = Counter::default();
    counter.usage.add(&rustix::fs::fstat(&directory).map_err(Error::io("look at", top))?);
    walk(directory, top, &mut counter)?;
    Ok(counter.usage)
}

/// Deletes `path` and all below it. Nothing at `path` is no error. `stop` ends the work early.
///
/// # Errors
/// [`Error::Mounted`] if something is mounted there or below: all else that comes before it in the
/// walk is deleted. [`Error::Stopped`] if `stop` became true.
pub fn remove(path: &Path, stop: &AtomicBool) -> Result<(), Error> {
    // Files that appear while their directory is emptied make its removal fail: look again.
    const ATTEMPTS: usize = 3;
    let mut attempt = 1;
    loop {
        match remove_once(path, stop) {
            Err(Error::Io { source, .. })
                if source.kind() == std::io::ErrorKind::DirectoryNotEmpty && attempt < ATTEMPTS =>
            {
                attempt += 1;
            }
            result => return result,
        }
    }
}

fn remove_once(path: &Path, stop: &AtomicBool) -> Result<(), Error> {
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::io("delete", path)(Errno::INVAL));
    };
    let parent = match open_directory(above) {
        Err(error) if error.is_not_found() => return Ok(()),
        parent => parent?,
    };
    let stat = match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        stat => stat.map_err(Error::io("look at", path))?,
    };
    let path = || path.to_owned();
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return unlink(&parent, name, AtFlags::empty(), &path);
    }
    let mut remover = Remover { stop };
    if let Some(top) = enter(&parent, name, &path, &mut remover)? {
        walk(top, &path(), &mut remover)?;
    }
    unlink(&parent, name, AtFlags::REMOVEDIR, &path)
}

/// What happens to the things that a walk meets. The descriptor is the directory that holds `name`.
trait Visitor {
    /// Anything but a directory.
    fn file(&mut self, parent: &OwnedFd, name: &CStr, path: &dyn Fn() -> PathBuf) -> Result<(), Error>;
    /// A directory, before its content.
    fn enter(&mut self, directory: &Stat);
    /// A directory, after its content.
    fn leave(&mut self, parent: &OwnedFd, name: &CStr, path: &dyn Fn() -> PathBuf) -> Result<(), Error>;
    /// A directory on which something is mounted; the walk does not enter it.
    fn mounted(&mut self, path: &dyn Fn() -> PathBuf) -> Result<(), Error>;
}

#[derive(Default)]
struct Counter {
    usage: DiskUsage,
    /// Inodes with several links that were counted.
    linked: HashSet<(u64, u64)>,
}

impl Visitor for Counter {
    fn file(&mut self, parent: &OwnedFd, name: &CStr, path: &dyn Fn() -> PathBuf) -> Result<(), Error> {
        let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            stat => stat.map_err(Error::io("look at", &path()))?,
        };
        if stat.st_nlink == 1 || self.linked.insert(identity(&stat)) {
            self.usage.add(&stat);
        }
        Ok(())
    }

    fn enter(&mut self, directory: &Stat) {
        self.usage.add(directory);
    }

    fn leave(&mut self, _: &OwnedFd, _: &CStr, _: &dyn Fn() -> PathBuf) -> Result<(), Error> {
        Ok(())
    }

    fn mounted(&mut self, _: &dyn Fn() -> PathBuf) -> Result<(), Error> {
        Ok(())
    }
}

struct Remover<'a> {
    stop: &'a AtomicBool,
}

impl Visitor for Remover<'_> {
    fn file(&mut self, parent: &OwnedFd, name: &CStr, path: &dyn Fn() -> PathBuf) -> Result<(), Error> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::Stopped { path: path() });
        }
        unlink(parent, name, AtFlags::empty(), path)
    }

    fn enter(&mut self, _: &Stat) {}

    fn leave(&mut self, parent: &OwnedFd, name: &CStr, path: &dyn Fn() -> PathBuf) -> Result<(), Error> {
        unlink(parent, name, AtFlags::REMOVEDIR, path)
    }

    fn mounted(&mut self, path: &dyn Fn() -> PathBuf) -> Result<(), Error> {
        Err(Error::Mounted { path: path() })
    }
}

/// A directory on the way from the top to where the walk is.
struct Level {
    /// Its name in the directory above.
    name: CString,
    identity: (u64, u64),
    /// Its directories that the walk has not entered yet.
    pending: Vec<CString>,
}

/// Visits all below `top`, depth first, files before directories. `top_path` serves messages only.
fn walk(top: OwnedFd, top_path: &Path, visitor: &mut impl Visitor) -> Result<(), Error> {
    let mut levels = Vec::new();
    let stat = rustix::fs::fstat(&top).map_err(Error::io("look at", top_path))?;
    let pending = visit_files(&top, &|| top_path.to_owned(), visitor)?;
    let mut current = top;
    let mut level = Level { name: CString::default(), identity: identity(&stat), pending };
    loop {
        if let Some(name) = level.pending.pop() {
            let path = || path_of(top_path, &levels, &[&level.name, &name]);
            let Some(child) = enter(&current, name.as_c_str(), &path, visitor)? else { continue };
            let stat = rustix::fs::fstat(&child).map_err(|e| Error::io("look at", &path())(e))?;
            visitor.enter(&stat);
            let pending = visit_files(&child, &path, visitor)?;
            let above = std::mem::replace(&mut level, Level { name, identity: identity(&stat), pending });
            levels.push(above);
            current = child;
        } else {
            let Some(above) = levels.pop() else { return Ok(()) };
            let path = || path_of(top_path, &levels, &[&above.name, &level.name]);
            current = parent_of(&current, above.identity, &path)?;
            visitor.leave(&current, &level.name, &path)?;
            level = above;
        }
    }
}

/// Opens the directory `name` of `parent`; None if there is nothing to walk.
fn enter(
    parent: &OwnedFd,
    name: impl Arg,
    path: &dyn Fn() -> PathBuf,
    visitor: &mut impl Visitor,
) -> Result<Option<OwnedFd>, Error> {
    match open_beneath(parent, name) {
        Ok(child) => Ok(Some(child)),
        // Gone, or replaced by something else, since the directory above was read.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(Errno::XDEV) => visitor.mounted(path).map(|()| None),
        Err(error) => Err(Error::io("open", &path())(error)),
    }
}

/// Shows the visitor all but the directories of `directory`, and returns those.
fn visit_files(
    directory: &OwnedFd,
    path: &dyn Fn() -> PathBuf,
    visitor: &mut impl Visitor,
) -> Result<Vec<CString>, Error> {
    let mut directories = Vec::new();
    let entries = Dir::read_from(directory).map_err(|e| Error::io("read", &path())(e))?;
    for entry in entries {
        let entry = entry.map_err(|e| Error::io("read", &path())(e))?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let entry_path = || path().join(OsStr::from_bytes(name.to_bytes()));
        match file_type(directory, name, entry.file_type()) {
            Ok(FileType::Directory) => directories.push(name.to_owned()),
            Ok(_) => visitor.file(directory, name, &entry_path)?,
            Err(Errno::NOENT) => {}
            Err(error) => return Err(Error::io("look at", &entry_path())(error)),
        }
    }
    Ok(directories)
}

/// Some file systems do not say the type in the directory entry.
fn file_type(directory: &OwnedFd, name: &CStr, told: FileType) -> Result<FileType, Errno> {
    match told {
        FileType::Unknown => rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
            .map(|stat| FileType::from_raw_mode(stat.st_mode)),
        told => Ok(told),
    }
}

/// The directory above `child`, which must be the one with this identity: a directory that is
/// moved during the walk would lead it out of the tree.
fn parent_of(child: &OwnedFd, expected: (u64, u64), path: &dyn Fn() -> PathBuf) -> Result<OwnedFd, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = rustix::fs::openat(child, c"..", flags, Mode::empty())
        .map_err(|e| Error::io("open the parent of", &path())(e))?;
    let stat = rustix::fs::fstat(&parent).map_err(|e| Error::io("look at the parent of", &path())(e))?;
    if identity(&stat) == expected { Ok(parent) } else { Err(Error::Moved { path: path() }) }
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

fn path_of(top: &Path, levels: &[Level], tail: &[&CStr]) -> PathBuf {
    let names = levels.iter().map(|level| level.name.as_c_str()).chain(tail.iter().copied());
    let mut path = top.to_owned();
    path.extend(names.filter(|name| !name.is_empty()).map(|name| OsStr::from_bytes(name.to_bytes())));
    path
}

/// Opens a directory whose path is ours, not a container's.
fn open_directory(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(Error::io("open", path))
}

/// Opens the directory `name` of `parent`, with [`Errno::XDEV`] if something is mounted on it.
fn open_beneath(parent: &OwnedFd, name: impl Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_XDEV
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::BENEATH;
    rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve)
}

fn unlink(
    parent: &OwnedFd,
    name: impl Arg + Copy,
    flags: AtFlags,
    path: &dyn Fn() -> PathBuf,
) -> Result<(), Error> {
    let unlinked = match rustix::fs::unlinkat(parent, name, flags) {
        // Layer files have the immutable attribute, wherever they are when their time is over.
        Err(Errno::PERM) if immutable::release(parent, name) == Ok(true) => {
            rustix::fs::unlinkat(parent, name, flags)
        }
        unlinked => unlinked,
    };
    match unlinked {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::BUSY) => Err(Error::Mounted { path: path() }),
        Err(error) => Err(Error::io("delete", &path())(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

    use super::*;
    use crate::skipped::skip;

    fn delete(path: &Path) -> Result<(), Error> {
        remove(path, &AtomicBool::new(false))
    }

    #[test]
    fn removes_a_tree_and_leaves_what_links_point_to() {
        let root = tempfile::tempdir().unwrap();
        let kept = root.path().join("kept");
        let tree = root.path().join("tree");
        fs::create_dir_all(tree.join("a/b/c")).unwrap();
        fs::create_dir_all(tree.join("a/d")).unwrap();
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "x").unwrap();
        symlink(&kept, tree.join("a/b/link")).unwrap();
        fs::write(tree.join("a/d/file"), "x").unwrap();
        delete(&tree).unwrap();
        assert!(!tree.exists());
        assert!(kept.join("file").exists());
    }

    #[test]
    fn removes_what_is_immutable() {
        let root = tempfile::tempdir().unwrap();
        let tree = root.path().join("tree");
        fs::create_dir(&tree).unwrap();
        for (name, attribute) in [("layer", IFlags::IMMUTABLE), ("log", IFlags::APPEND)] {
            fs::write(tree.join(name), "x").unwrap();
            let file = fs::File::open(tree.join(name)).unwrap();
            let attributes = ioctl_getflags(&file).map(|attributes| attributes | attribute);
            if let Err(error) = attributes.and_then(|attributes| ioctl_setflags(&file, attributes)) {
                skip("removes_what_is_immutable", format!("no such attribute: {error}"));
                return;
            }
            fs::remove_file(tree.join(name)).unwrap_err();
        }
        delete(&tree.join("log")).unwrap();
        delete(&tree).unwrap();
        assert!(!tree.exists());
    }

    #[test]
    fn removes_a_file_and_takes_nothing_for_done() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "x").unwrap();
        delete(&file).unwrap();
        assert!(!file.exists());
        delete(&file).unwrap();
    }

    #[test]
    fn removes_a_link_to_a_directory_and_not_the_directory() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("kept")).unwrap();
        symlink(root.path().join("kept"), root.path().join("link")).unwrap();
        delete(&root.path().join("link")).unwrap();
        assert!(root.path().join("kept").exists());
        assert!(root.path().join("link").symlink_metadata().is_err());
    }

    /// Deeper than a path can say and than a process may have descriptors, with a file and a
    /// sibling on each level.
    fn deep_tree(top: &Path, depth: usize) {
        fs::create_dir(top).unwrap();
        let mut current = open_directory(top).unwrap();
        for _ in 0..depth {
            for name in [c"down", c"sibling"] {
                rustix::fs::mkdirat(&current, name, Mode::RWXU).unwrap();
            }
            let flags = OFlags::CREATE | OFlags::WRONLY;
            drop(rustix::fs::openat(&current, c"file", flags, Mode::RUSR).unwrap());
            current = open_beneath(&current, c"down").unwrap();
        }
    }

    #[test]
    fn depth_has_no_limit() {
        let root = tempfile::tempdir().unwrap();
        let tree = root.path().join("tree");
        deep_tree(&tree, 1500);
        assert_eq!(disk_usage(&tree).unwrap().inodes, 1 + 3 * 1500);
        delete(&tree).unwrap();
        assert!(!tree.exists());
    }

    #[test]
    fn hard_links_count_once() {
        let root = tempfile::tempdir().unwrap();
        let tree = root.path().join("tree");
        fs::create_dir_all(tree.join("sub")).unwrap();
        fs::write(tree.join("one"), vec![7; 8192]).unwrap();
        fs::hard_link(tree.join("one"), tree.join("sub/two")).unwrap();
        symlink("nowhere", tree.join("link")).unwrap();
        rustix::fs::sync();
        let usage = disk_usage(&tree).unwrap();
        assert_eq!(usage.inodes, 4);
        let stat = |path: &Path| rustix::fs::lstat(path).unwrap().st_blocks as u64 * 512;
        let expected = ["", "one", "sub", "link"].iter().map(|name| stat(&tree.join(name))).sum::<u64>();
        assert_eq!(usage.bytes, expected);
        assert!(usage.bytes >= 8192);
    }

    #[test]
    fn a_stopped_removal_says_so() {
        let root = tempfile::tempdir().unwrap();
        let tree = root.path().join("tree");
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("file"), "x").unwrap();
        assert!(matches!(remove(&tree, &AtomicBool::new(true)), Err(Error::Stopped { .. })));
        assert!(tree.join("file").exists());
    }

    #[test]
    fn what_is_mounted_in_the_tree_is_not_touched() {
        let root = tempfile::tempdir().unwrap();
        let (tree, outside) = (root.path().join("tree"), root.path().join("outside"));
        let point = tree.join("a/point");
        fs::create_dir_all(&point).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("precious"), vec![1; 4096]).unwrap();
        if let Err(error) = rustix::mount::mount_bind(&outside, &point) {
            skip(
                "what_is_mounted_in_the_tree_is_not_touched",
                format!("a bind mount needs CAP_SYS_ADMIN: {error}"),
            );
            return;
        }
        let counted = disk_usage(&tree);
        let inside = delete(&tree);
        let at_the_top = delete(&point);
        crate::unmounting::unmount(&point);
        assert_eq!(counted.unwrap().inodes, 2);
        assert!(matches!(inside, Err(Error::Mounted { path }) if path == point));
        assert!(matches!(at_the_top, Err(Error::Mounted { path }) if path == point));
        assert!(outside.join("precious").exists());
        delete(&tree).unwrap();
    }
}
