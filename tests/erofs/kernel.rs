//! Images through the kernel: mounted, and compared with what went in.
//!
//! Needs root and a kernel that mounts EROFS from a file (6.12); each test names itself as skipped
//! where that is missing.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nexuserofs::image::tree::{Node, Timestamp, Tree};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use rustix::fs::{Dir, lgetxattr, llistxattr};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

use crate::everything::everything;
use crate::listing::{self, Facts, Listing, join};
use crate::random::any_sample;
use crate::sample::{Run, Sample, bytes, metadata};
use crate::skipped;

#[test]
fn kernel_shows_everything() {
    let _ = assert_kernel_agrees("kernel_shows_everything", &everything());
}

#[test]
fn kernel_shows_a_directory_of_50_000_entries() {
    let mut sample = Sample::new();
    let directory = sample.directory(Tree::ROOT, b"many", metadata(0o755));
    for i in 0..50_000 {
        sample.add(directory, format!("entry number {i}").as_bytes(), metadata(0o644), Node::Fifo);
    }
    let _ = assert_kernel_agrees("kernel_shows_a_directory_of_50_000_entries", &sample);
}

#[test]
fn kernel_shows_the_ends_of_time() {
    let mut sample = Sample::new();
    for (name, seconds) in [("first", i64::MIN), ("before", -1), ("epoch", 0), ("last", i64::MAX)] {
        let mut metadata = metadata(0o644);
        metadata.mtime = Timestamp { seconds, nanoseconds: 999_999_999 };
        sample.file(Tree::ROOT, name.as_bytes(), metadata, b"x");
    }
    let _ = assert_kernel_agrees("kernel_shows_the_ends_of_time", &sample);
}

#[test]
fn kernel_reads_past_4_gib() {
    let mut sample = Sample::new();
    let run = |file_block, size| Run { file_block, bytes: bytes(3, size) };
    let runs = vec![run(0, 4096), run(1 << 20, 8 << 20), run((1 << 20) + 5000, 4097)];
    sample.sparse(Tree::ROOT, b"file", metadata(0o644), (1 << 32) + 5000 * 4096 + 4097, runs);
    let _ = assert_kernel_agrees("kernel_reads_past_4_gib", &sample);
}

#[test]
fn kernel_shows_random_trees() {
    let mut runner = TestRunner::deterministic();
    for _ in 0..50 {
        let Ok(sample) = any_sample().new_tree(&mut runner) else { continue };
        if assert_kernel_agrees("kernel_shows_random_trees", &sample.current()).is_err() {
            return;
        }
    }
}

/// Compares a sample with its mounted image.
fn assert_kernel_agrees(test: &str, sample: &Sample) -> Result<(), Skipped> {
    let mounted = Mounted::new(&sample.image()).map_err(|errno| skip(test, errno))?;
    let listing = mounted.list();
    let expected = listing::expected(sample);
    for (path, facts) in &expected {
        assert_eq!(listing.get(path), Some(facts), "{}", path.escape_ascii());
    }
    assert_eq!(listing.len(), expected.len());
    for probe in listing::probes(sample) {
        let mut bytes = vec![0; probe.bytes.len()];
        let file = File::open(mounted.path(&probe.path)).unwrap();
        file.read_exact_at(&mut bytes, probe.offset).unwrap();
        assert!(bytes == probe.bytes, "{} at {}", probe.path.escape_ascii(), probe.offset);
    }
    Ok(())
}

/// A test cannot run here, and has said why.
struct Skipped;

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
    fn new(image: &[u8]) -> Result<Self, Errno> {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("image");
        fs::write(&file, image).unwrap();
        let target = directory.path().join("mount");
        fs::create_dir(&target).unwrap();
        mount(&file, &target, "erofs", MountFlags::RDONLY, None)?;
        Ok(Self { directory })
    }

    /// Where a path of the image is; the root's path is empty, others start with a slash.
    fn path(&self, path: &[u8]) -> PathBuf {
        let mut full = self.directory.path().join("mount").into_os_string();
        full.push(OsStr::from_bytes(path));
        full.into()
    }

    fn list(&self) -> Listing {
        let mut listing = Listing::new();
        let mut inodes = BTreeMap::new();
        let mut pending = vec![Vec::new()];
        while let Some(path) = pending.pop() {
            let full = self.path(&path);
            let status = fs::symlink_metadata(&full).unwrap();
            if status.is_dir() {
                let parent = path.iter().rposition(|&byte| byte == b'/').map(|slash| &path[..slash]);
                let parent = fs::metadata(self.path(parent.unwrap_or_default())).unwrap().ino();
                let names = names(&full, [status.ino(), parent]);
                pending.extend(names.iter().map(|name| join(&path, name)));
            }
            inodes.insert(path.clone(), status.ino());
            listing.insert(path, facts(&full, &status));
        }
        listing::resolve_links(inodes, &mut listing);
        listing
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(self.path(b""), UnmountFlags::DETACH).unwrap();
    }
}

/// Names in a directory, whose `.` and `..` have to be these inodes. They have to come in byte order.
fn names(path: &Path, [this, parent]: [u64; 2]) -> Vec<Vec<u8>> {
    let entries = Dir::read_from(File::open(path).unwrap()).unwrap().map(Result::unwrap);
    let entries: Vec<_> = entries.map(|entry| (entry.file_name().to_bytes().to_vec(), entry.ino())).collect();
    assert!(entries.is_sorted(), "{} is not in order", path.display());
    assert!(entries.contains(&(b".".to_vec(), this)), "{}/.", path.display());
    assert!(entries.contains(&(b"..".to_vec(), parent)), "{}/..", path.display());
    let names = entries.into_iter().map(|(name, _)| name);
    names.filter(|name| !matches!(name.as_slice(), b"." | b"..")).collect()
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
