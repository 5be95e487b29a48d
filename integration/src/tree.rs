//! File trees, read through the kernel and compared entry by entry.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::digest::{Hashed, hex};

/// Largest list of xattr names and largest value that Linux allows, in bytes.
const XATTR_MAX: usize = 64 * 1024;

/// What is compared of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Type, and what a file of that type has.
    pub content: Content,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time, seconds and nanoseconds.
    pub mtime: (i64, i64),
    /// Extended attributes.
    pub xattrs: BTreeMap<OsString, Vec<u8>>,
    /// The first path, in order, of the same file: hard links are groups of equal values.
    pub same_as: PathBuf,
}

/// What a file of a type has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Size in bytes and sha256 of a regular file.
    File(u64, [u8; 32]),
    /// A directory.
    Directory,
    /// The target of a symlink.
    Symlink(PathBuf),
    /// Device number of a character device.
    Character(u64),
    /// Device number of a block device.
    Block(u64),
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
}

/// A tree's entries by path below its root; the root's own path is empty.
pub type Tree = BTreeMap<PathBuf, Entry>;

/// Reads a whole tree, with content.
///
/// # Errors
/// Something in it cannot be read.
pub fn read(root: &Path) -> Result<Tree> {
    let mut reader = Reader { root, links: HashMap::new(), tree: Tree::new() };
    reader.visit(PathBuf::new())?;
    Ok(reader.tree)
}

/// Reads an image's root file system, for a comparison with containerd's overlayfs snapshotter.
///
/// That snapshotter ignores an archive's entry for the root directory itself (containerd 2.3,
/// `pkg/archive/tar.go`, "resolved to root"): its root has the time of the unpacking, which no other
/// snapshotter can have. So the root's time is 0 here.
///
/// # Errors
/// As [`read`].
pub fn read_image(root: &Path) -> Result<Tree> {
    let mut tree = read(root)?;
    if let Some(entry) = tree.get_mut(Path::new("")) {
        entry.mtime = (0, 0);
    }
    Ok(tree)
}

struct Reader<'a> {
    root: &'a Path,
    /// First path seen of each inode with several links.
    links: HashMap<(u64, u64), PathBuf>,
    tree: Tree,
}

impl Reader<'_> {
    fn visit(&mut self, path: PathBuf) -> Result<()> {
        // Joining an empty path would add a slash, and a symlink at the root would be followed.
        let full = if path.as_os_str().is_empty() { self.root.to_owned() } else { self.root.join(&path) };
        let entry = self.entry(&path, &full).with_context(|| format!("read {}", full.display()))?;
        let is_directory = entry.content == Content::Directory;
        self.tree.insert(path.clone(), entry);
        if !is_directory {
            return Ok(());
        }
        let mut names =
            fs::read_dir(&full)?.map(|child| Ok(child?.file_name())).collect::<io::Result<Vec<_>>>()?;
        // In order, so that the first path of a group of links is the same in every tree.
        names.sort();
        names.into_iter().try_for_each(|name| self.visit(path.join(name)))
    }

    fn entry(&mut self, path: &Path, full: &Path) -> Result<Entry> {
        let meta = fs::symlink_metadata(full)?;
        let same_as = if meta.is_dir() || meta.nlink() == 1 {
            path.to_owned()
        } else {
            self.links.entry((meta.dev(), meta.ino())).or_insert_with(|| path.to_owned()).clone()
        };
        Ok(Entry {
            content: content(&meta, full)?,
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            xattrs: xattrs(full)?,
            same_as,
        })
    }
}

fn content(meta: &fs::Metadata, full: &Path) -> Result<Content> {
    let kind = meta.file_type();
    Ok(if kind.is_dir() {
        Content::Directory
    } else if kind.is_file() {
        let mut file = Hashed::new(File::open(full)?);
        io::copy(&mut file, &mut io::sink())?;
        Content::File(file.length(), file.digest())
    } else if kind.is_symlink() {
        Content::Symlink(fs::read_link(full)?)
    } else if kind.is_char_device() {
        Content::Character(meta.rdev())
    } else if kind.is_block_device() {
        Content::Block(meta.rdev())
    } else if kind.is_fifo() {
        Content::Fifo
    } else {
        Content::Socket
    })
}

fn xattrs(path: &Path) -> Result<BTreeMap<OsString, Vec<u8>>> {
    let mut names = vec![0_u8; XATTR_MAX];
    let length = rustix::fs::llistxattr(path, &mut names[..])?;
    names.truncate(length);
    names
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let name = OsString::from_vec(name.to_vec());
            let mut value = vec![0_u8; XATTR_MAX];
            let length = rustix::fs::lgetxattr(path, &name, &mut value[..])?;
            value.truncate(length);
            Ok((name, value))
        })
        .collect()
}

/// Every difference between two trees, one line each, with the first at most `limit` of them shown.
#[must_use]
pub fn differences(left: &Tree, right: &Tree, limit: usize) -> Vec<String> {
    let mut found = Vec::new();
    for (path, entry) in left {
        match right.get(path) {
            None => found.push(format!("only left: {}", path.display())),
            Some(other) if other != entry => {
                found.push(format!("{}: {}", path.display(), entry.difference(other)));
            }
            Some(_) => {}
        }
    }
    found.extend(
        right
            .keys()
            .filter(|path| !left.contains_key(*path))
            .map(|path| format!("only right: {}", path.display())),
    );
    if found.len() > limit {
        let more = found.len() - limit;
        found.truncate(limit);
        found.push(format!("and {more} more"));
    }
    found
}

impl Entry {
    fn difference(&self, other: &Self) -> String {
        let fields = [
            ("content", format!("{:?}", self.content), format!("{:?}", other.content)),
            ("mode", format!("{:o}", self.mode), format!("{:o}", other.mode)),
            ("owner", format!("{}:{}", self.uid, self.gid), format!("{}:{}", other.uid, other.gid)),
            ("mtime", format!("{:?}", self.mtime), format!("{:?}", other.mtime)),
            ("xattrs", shown(&self.xattrs), shown(&other.xattrs)),
            ("links", format!("{:?}", self.same_as), format!("{:?}", other.same_as)),
        ];
        let differing: Vec<String> = fields
            .iter()
            .filter(|(_, left, right)| left != right)
            .map(|(name, left, right)| format!("{name} {left} / {right}"))
            .collect();
        differing.join(", ")
    }
}

/// Attributes with the beginning of each value.
fn shown(xattrs: &BTreeMap<OsString, Vec<u8>>) -> String {
    let one = |(name, value): (&OsString, &Vec<u8>)| {
        format!("{}={} ({} bytes)", name.display(), hex(value.get(..16).unwrap_or(value)), value.len())
    };
    format!("[{}]", xattrs.iter().map(one).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn sample() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/file"), "content").unwrap();
        fs::hard_link(dir.path().join("d/file"), dir.path().join("link")).unwrap();
        symlink("d/file", dir.path().join("symlink")).unwrap();
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        for path in ["d/file", "d", "."] {
            File::open(dir.path().join(path)).unwrap().set_modified(time).unwrap();
        }
        dir
    }

    fn changed(change: impl FnOnce(&Path)) -> Vec<String> {
        let (left, right) = (sample(), sample());
        let mut left = read(left.path()).unwrap();
        change(right.path());
        let mut right = read(right.path()).unwrap();
        // A symlink's time cannot be set here; it is not what these tests are about.
        left.remove(Path::new("symlink"));
        right.remove(Path::new("symlink"));
        right.get_mut(Path::new("")).unwrap().mtime = left[Path::new("")].mtime;
        differences(&left, &right, 10)
    }

    #[test]
    fn equal_trees_have_no_difference() {
        assert_eq!(changed(|_| {}), Vec::<String>::new());
    }

    #[test]
    fn a_changed_mode_is_found() {
        let found = changed(|root| {
            fs::set_permissions(root.join("d"), fs::Permissions::from_mode(0o700)).unwrap();
        });
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("d: mode"), "{found:?}");
    }

    #[test]
    fn changed_content_is_found_under_every_name() {
        let found = changed(|root| {
            let time = fs::metadata(root.join("link")).unwrap().modified().unwrap();
            fs::write(root.join("link"), "CONTENT").unwrap();
            File::open(root.join("link")).unwrap().set_modified(time).unwrap();
        });
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|line| line.contains(": content")), "{found:?}");
    }

    #[test]
    fn a_broken_link_group_is_found() {
        let found = changed(|root| {
            let time = fs::metadata(root.join("link")).unwrap().modified().unwrap();
            fs::copy(root.join("link"), root.join("copy")).unwrap();
            fs::rename(root.join("copy"), root.join("link")).unwrap();
            File::open(root.join("link")).unwrap().set_modified(time).unwrap();
        });
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("link: links"), "{found:?}");
    }

    #[test]
    fn added_and_missing_entries_are_found() {
        let found = changed(|root| fs::rename(root.join("link"), root.join("renamed")).unwrap());
        assert!(found.contains(&"only left: link".to_owned()), "{found:?}");
        assert!(found.contains(&"only right: renamed".to_owned()), "{found:?}");
    }
}
