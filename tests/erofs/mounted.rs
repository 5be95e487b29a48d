//! The kernel as a reader: an image is mounted and looked through.
//!
//! Needs root and a kernel that mounts EROFS from a file (6.12); who asks learns what is missing.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, lgetxattr, llistxattr};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

use crate::listing::{self, Facts, Listing, Probe, join};
use crate::skipped;

/// Fails unless the kernel shows these facts and these bytes of the image in a file. Where it cannot
/// mount one, says that `test` is skipped and why.
pub(crate) fn assert_shows(
    test: &str,
    image: &Path,
    expected: &Listing,
    probes: &[Probe],
) -> Result<(), Skipped> {
    let mounted = Mounted::new(image).map_err(|errno| skip(test, errno))?;
    listing::assert_same(&mounted.list(), expected);
    for probe in probes {
        let mut bytes = vec![0; probe.bytes.len()];
        let file = File::open(mounted.path(&probe.path)).unwrap();
        file.read_exact_at(&mut bytes, probe.offset).unwrap();
        assert!(bytes == probe.bytes, "{} at {}", probe.path.escape_ascii(), probe.offset);
    }
    Ok(())
}

/// A test cannot run here, and has said why.
#[derive(Debug)]
pub(crate) struct Skipped;

/// Says why a test does not run.
fn skip(test: &str, errno: Errno) -> Skipped {
    let reason = match errno {
        Errno::PERM => "not allowed to mount (needs root)",
        Errno::NODEV => "the kernel has no EROFS",
        Errno::NOTBLK => "the kernel does not mount EROFS from a file (needs 6.12)",
        other => panic!("mounting the image failed: {other}"),
    };
    skipped::skip(test, reason);
    Skipped
}

/// A mounted image, unmounted when dropped.
struct Mounted {
    directory: TempDir,
}

impl Mounted {
    fn new(image: &Path) -> Result<Self, Errno> {
        let directory = TempDir::new().unwrap();
        mount(image, directory.path(), "erofs", MountFlags::RDONLY, None)?;
        Ok(Self { directory })
    }

    fn path(&self, path: &[u8]) -> PathBuf {
        place(self.directory.path(), path)
    }

    fn list(&self) -> Listing {
        let listing = list(self.directory.path());
        for (path, facts) in &listing {
            if facts.mode & 0o170_000 == 0o040_000 {
                let parent = path.iter().rposition(|&byte| byte == b'/').map(|slash| &path[..slash]);
                let inode = |path| fs::metadata(self.path(path)).unwrap().ino();
                check_order(&self.path(path), [inode(path), inode(parent.unwrap_or_default())]);
            }
        }
        listing
    }
}

/// What the kernel shows of a directory and all below it.
pub(crate) fn list(top: &Path) -> Listing {
    let mut listing = Listing::new();
    let mut inodes = BTreeMap::new();
    let mut pending = vec![Vec::new()];
    while let Some(path) = pending.pop() {
        let full = place(top, &path);
        let status = match fs::symlink_metadata(&full) {
            // Overlayfs lists the whiteouts of a directory that one layer alone has, and does not find them.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            status => status.unwrap(),
        };
        if status.is_dir() {
            let entries = fs::read_dir(&full).unwrap().map(|entry| entry.unwrap().file_name().into_vec());
            pending.extend(entries.map(|name| join(&path, &name)));
        }
        inodes.insert(path.clone(), (status.dev(), status.ino()));
        listing.insert(path, facts(&full, &status));
    }
    listing::resolve_links(inodes, &mut listing);
    listing
}

/// Where a path is below a directory; the directory's own path is empty, others start with a slash.
pub(crate) fn place(top: &Path, path: &[u8]) -> PathBuf {
    let mut full = top.as_os_str().to_owned();
    full.push(OsStr::from_bytes(path));
    full.into()
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(self.path(b""), UnmountFlags::DETACH).unwrap();
    }
}

/// Fails unless `.` and `..` of a directory are these inodes and its names come in byte order.
fn check_order(path: &Path, [this, parent]: [u64; 2]) {
    let entries = Dir::read_from(File::open(path).unwrap()).unwrap().map(Result::unwrap);
    let entries: Vec<_> = entries.map(|entry| (entry.file_name().to_bytes().to_vec(), entry.ino())).collect();
    assert!(entries.is_sorted(), "{} is not in order", path.display());
    assert!(entries.contains(&(b".".to_vec(), this)), "{}/.", path.display());
    assert!(entries.contains(&(b"..".to_vec(), parent)), "{}/..", path.display());
}

fn facts(path: &Path, status: &fs::Metadata) -> Facts {
    let file_type = status.mode() & 0o170_000;
    let is_device = matches!(file_type, 0o020_000 | 0o060_000);
    let device = (rustix::fs::major(status.rdev()), rustix::fs::minor(status.rdev()));
    Facts {
        mode: status.mode(),
        links: status.nlink(),
        owner: (status.uid(), status.gid()),
        mtime: (status.mtime(), status.mtime_nsec() as u32),
        device: is_device.then_some(device),
        size: (!status.is_dir()).then(|| status.size()),
        target: status.is_symlink().then(|| fs::read_link(path).unwrap().into_os_string().into_vec()),
        xattrs: xattrs(path),
        same_as: Vec::new(),
    }
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 1 << 16];
    let size = llistxattr(path, &mut names[..]).unwrap();
    let names = names[..size].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 1 << 16];
            let size = lgetxattr(path, CString::new(name).unwrap(), &mut value[..]).unwrap();
            value.truncate(size);
            (name.to_vec(), value)
        })
        .collect()
}
