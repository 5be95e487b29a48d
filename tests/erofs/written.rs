//! What was written to a directory, as a layer: a sample is put into a directory, a layer is made of that,
//! and both readers must see in it what the kernel shows of the directory itself.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, symlink};
use std::path::Path;

use nexuserofs::image::tree::{BLOCK_SIZE, Contents as _, Directory, InodeId, Node, Tree};
use nexuserofs::layer::{HashTree, LayerRecord, RootAttributes, upper, written};
use nexuserofs::store::unique::Unique;
use proptest::prelude::*;
use rustix::fs::{AtFlags, FileType, Mode, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;
use tempfile::TempDir;

use crate::everything::everything;
use crate::independent;
use crate::listing::{self, Listing, join};
use crate::mounted::{self, list, place};
use crate::random::any_sample;
use crate::sample::{Run, Sample, bytes, metadata};
use crate::skipped::skip;
use crate::unmounting::unmount;

const UNIQUE: &str = "0123456789abcdef0123456789abcdef";

/// A directory in memory, which holds larger attributes and later times than most file systems.
fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory).unwrap() } else { TempDir::new().unwrap() }
}

fn open(directory: &Path) -> OwnedFd {
    File::open(directory).unwrap().into()
}

fn build(top: &Path, image: &Path) -> LayerRecord {
    written::build(open(top), image, UNIQUE.parse().unwrap(), HashTree::Without, &|_| {}, &|| false).unwrap()
}

/// Puts a sample into `top`. What the file system refuses is left out: the expectation is what it shows then.
/// None without the right to make devices.
fn materialise(sample: &Sample, top: &Path) -> Option<()> {
    if rustix::process::geteuid().as_raw() != 0 {
        return None;
    }
    let mut made: BTreeMap<InodeId, Vec<u8>> = BTreeMap::new();
    fill(sample, top, Tree::ROOT, b"", &mut made);
    // Times last, and those of directories after what is in them.
    for (id, path) in made.iter().rev() {
        describe(sample, *id, &place(top, path));
    }
    describe(sample, Tree::ROOT, top);
    Some(())
}

fn fill(sample: &Sample, top: &Path, id: InodeId, path: &[u8], made: &mut BTreeMap<InodeId, Vec<u8>>) {
    let Node::Directory(Directory { entries }) = &sample.tree.inode(id).node else { return };
    for (name, &child) in entries {
        let child_path = join(path, name);
        let full = place(top, &child_path);
        if let Some(first) = made.get(&child) {
            fs::hard_link(place(top, first), &full).unwrap();
            continue;
        }
        create(sample, child, &full);
        made.insert(child, child_path.clone());
        fill(sample, top, child, &child_path, made);
    }
}

fn create(sample: &Sample, id: InodeId, path: &Path) {
    let special = |file_type, (major, minor)| {
        let device = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(rustix::fs::CWD, path, file_type, Mode::RWXU, device).unwrap();
    };
    match &sample.tree.inode(id).node {
        Node::Directory(_) => fs::create_dir(path).unwrap(),
        Node::Regular(data) => {
            let file = File::create_new(path).unwrap();
            file.set_len(data.size).unwrap();
            for run in &sample.data[&id] {
                file.write_all_at(&run.bytes, run.file_block * BLOCK_SIZE).unwrap();
            }
        }
        Node::Symlink(target) => symlink(OsStr::from_bytes(target), path).unwrap(),
        Node::CharacterDevice(number) => special(FileType::CharacterDevice, (number.major, number.minor)),
        Node::BlockDevice(number) => special(FileType::BlockDevice, (number.major, number.minor)),
        Node::Fifo => special(FileType::Fifo, (0, 0)),
        Node::Socket => special(FileType::Socket, (0, 0)),
    }
}

/// Gives a file its owner, attributes, mode and time.
fn describe(sample: &Sample, id: InodeId, path: &Path) {
    let inode = sample.tree.inode(id);
    let metadata = &inode.metadata;
    let valid = |id: u32| (id != u32::MAX).then_some(id);
    std::os::unix::fs::lchown(path, valid(metadata.uid), valid(metadata.gid)).unwrap();
    // A label of the host is not the layer's, and would show in the directory only.
    for (name, value) in metadata.xattrs.iter().filter(|(name, _)| *name != b"security.selinux") {
        match rustix::fs::lsetxattr(path, name.as_slice(), value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOSPC | Errno::PERM | Errno::TOOBIG | Errno::INVAL | Errno::OPNOTSUPP) => {}
            Err(error) => panic!("{}: {error}", name.escape_ascii()),
        }
    }
    if !matches!(inode.node, Node::Symlink(_)) {
        rustix::fs::chmod(path, Mode::from_raw_mode(u32::from(metadata.mode))).unwrap();
    }
    let time = Timespec { tv_sec: metadata.mtime.seconds, tv_nsec: i64::from(metadata.mtime.nanoseconds) };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// What readers of a layer must see of a directory: what the kernel shows, with the links of directories as
/// EROFS counts them.
fn expected(top: &Path) -> Listing {
    let mut listing = list(top);
    let is_directory = |mode: u32| mode & 0o170_000 == 0o040_000;
    let parents: Vec<Vec<u8>> = listing
        .iter()
        .filter(|(path, facts)| !path.is_empty() && is_directory(facts.mode))
        .map(|(path, _)| path[..path.iter().rposition(|byte| *byte == b'/').unwrap()].to_vec())
        .collect();
    for (path, facts) in listing.iter_mut().filter(|(_, facts)| is_directory(facts.mode)) {
        facts.links = 2 + parents.iter().filter(|parent| *parent == path).count() as u64;
    }
    listing
}

/// Fails unless a layer of the directory `top` shows what is there, to both readers.
fn assert_same_layer(test: &str, top: &Path, sample: &Sample) {
    let output = TempDir::new().unwrap();
    let image = output.path().join("layer.erofs");
    let record = build(top, &image);
    let content = fs::read(&image).unwrap();
    assert_eq!(record.image_bytes, content.len() as u64);
    let (expected, probes) = (expected(top), sample.probes());
    independent::assert_shows(&content, &expected, &probes);
    let _ = mounted::assert_shows(test, &image, &expected, &probes);
    let again = output.path().join("again");
    assert_eq!(build(top, &again), record);
    assert!(fs::read(again).unwrap() == content, "the same directory gives the same layer");
}

/// Fails unless the tree's contents read as the sample says.
fn assert_contents(top: &Path, sample: &Sample) {
    let scanned = upper::scan(open(top), &|| false).unwrap();
    let mut by_path = BTreeMap::new();
    listing::visit(&scanned.tree, &mut |path, id, _| {
        by_path.insert(path, id);
    });
    for probe in sample.probes() {
        let id = by_path[&probe.path];
        let mut reader = scanned.contents.open(id).unwrap();
        std::io::copy(&mut (&mut reader).take(probe.offset), &mut std::io::sink()).unwrap();
        let mut found = vec![0; probe.bytes.len()];
        reader.read_exact(&mut found).unwrap();
        assert!(found == probe.bytes, "{} at {}", probe.path.escape_ascii(), probe.offset);
    }
    assert!(scanned.contents.open(Tree::ROOT).is_err());
}

fn without_large(mut sample: Sample) -> Sample {
    // Reading a tebibyte of holes byte by byte takes too long for a test of contents.
    for (id, _) in sample.data.clone() {
        if let Node::Regular(data) = &mut sample.tree.inodes[id.0 as usize].node
            && data.size > 1 << 30
        {
            data.size = 8 << 20;
            sample.data.insert(id, vec![Run { file_block: 7, bytes: bytes(1, 5000) }]);
        }
    }
    sample
}

#[test]
fn a_layer_of_everything_shows_what_the_directory_does() {
    let top = directory();
    let Some(()) = materialise(&everything(), top.path()) else {
        return skip("a_layer_of_everything_shows_what_the_directory_does", "devices need root");
    };
    assert_same_layer("a_layer_of_everything_shows_what_the_directory_does", top.path(), &everything());
}

#[test]
fn contents_are_read_where_they_lie() {
    let (top, sample) = (directory(), without_large(everything()));
    match materialise(&sample, top.path()) {
        Some(()) => assert_contents(top.path(), &sample),
        None => skip("contents_are_read_where_they_lie", "devices need root"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn layers_of_random_directories_show_what_they_do(sample in any_sample()) {
        let test = "layers_of_random_directories_show_what_they_do";
        let top = directory();
        match materialise(&sample, top.path()) {
            Some(()) => {
                assert_same_layer(test, top.path(), &sample);
                assert_contents(top.path(), &sample);
            }
            None => skip(test, "devices need root"),
        }
    }
}

#[test]
fn the_root_of_a_layer_is_that_of_the_directory() {
    let top = directory();
    let mut sample = Sample::new();
    sample.tree.inodes[0].metadata.mode = 0o1751;
    sample.set_xattr(Tree::ROOT, "user.kept", b"value");
    sample.set_xattr(Tree::ROOT, "trusted.overlay.opaque", b"y");
    let Some(()) = materialise(&sample, top.path()) else {
        return skip("the_root_of_a_layer_is_that_of_the_directory", "trusted attributes need root");
    };
    let output = TempDir::new().unwrap();
    let record = build(top.path(), &output.path().join("layer.erofs"));
    let xattrs = BTreeMap::from([(b"user.kept".to_vec(), b"value".to_vec())]);
    assert_eq!(record.root, Some(RootAttributes { mode: 0o1751, uid: 0, gid: 0, xattrs }));
    assert!(record.is_consistent());
}

#[test]
fn a_sparse_file_stays_sparse() {
    let top = directory();
    let file = File::create(top.path().join("sparse")).unwrap();
    file.set_len(1 << 40).unwrap();
    file.write_all_at(b"middle", 1 << 39).unwrap();
    let output = TempDir::new().unwrap();
    let record = build(top.path(), &output.path().join("layer.erofs"));
    assert!(record.image_bytes < 32 << 20, "{} bytes", record.image_bytes);
}

/// Overlay's marks as a kernel leaves them, and those that only newer kernels have.
#[test]
fn marks_of_overlay_are_kept_dropped_or_turned_into_devices() {
    let top = directory();
    let mut sample = Sample::new();
    let marked = sample.directory(Tree::ROOT, b"holds whiteouts", metadata(0o755));
    sample.set_xattr(marked, "trusted.overlay.opaque", b"x");
    let whiteout = sample.file(marked, b"hidden", metadata(0o600), b"");
    sample.set_xattr(whiteout, "trusted.overlay.whiteout", b"y");
    let opaque = sample.directory(Tree::ROOT, b"opaque", metadata(0o755));
    sample.set_xattr(opaque, "trusted.overlay.opaque", b"y");
    let unmarked = sample.file(opaque, b"file", metadata(0o600), b"");
    sample.set_xattr(unmarked, "trusted.overlay.whiteout", b"y");
    let moved = sample.directory(Tree::ROOT, b"moved", metadata(0o755));
    for name in ["redirect", "metacopy", "origin", "impure", "nlink", "upper", "uuid", "protattr"] {
        sample.set_xattr(moved, &format!("trusted.overlay.{name}"), b"/from");
    }
    let Some(()) = materialise(&sample, top.path()) else {
        return skip(
            "marks_of_overlay_are_kept_dropped_or_turned_into_devices",
            "trusted attributes need root",
        );
    };
    let tree = upper::scan(open(top.path()), &|| false).unwrap().tree;
    let mut found = BTreeMap::new();
    listing::visit(&tree, &mut |path, _, inode| {
        let xattrs: Vec<String> =
            inode.metadata.xattrs.keys().map(|name| String::from_utf8(name.clone()).unwrap()).collect();
        let kind = matches!(inode.node, Node::CharacterDevice(number) if number == Default::default());
        found.insert(String::from_utf8(path).unwrap(), (kind, xattrs.join(" ")));
    });
    let text = |text: &str| text.to_owned();
    assert_eq!(
        found,
        BTreeMap::from([
            (text(""), (false, text(""))),
            (text("/holds whiteouts"), (false, text(""))),
            (text("/holds whiteouts/hidden"), (true, text(""))),
            (text("/moved"), (false, text("trusted.overlay.metacopy trusted.overlay.redirect"))),
            (text("/opaque"), (false, text("trusted.overlay.opaque"))),
            (text("/opaque/file"), (false, text(""))),
        ])
    );
}

#[test]
fn depth_has_no_limit() {
    let top = TempDir::new().unwrap();
    let mut current = open(top.path());
    const DEPTH: usize = 1200;
    for level in 0..DEPTH {
        for name in ["down with a name that is long enough to go past every limit of paths", "beside"] {
            rustix::fs::mkdirat(&current, name, Mode::RWXU).unwrap();
        }
        let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
        let file = rustix::fs::openat(&current, "file", flags, Mode::RUSR).unwrap();
        rustix::io::write(&file, level.to_string().as_bytes()).unwrap();
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
        let name = "down with a name that is long enough to go past every limit of paths";
        current = rustix::fs::openat(&current, name, flags, Mode::empty()).unwrap();
    }
    let scanned = upper::scan(open(top.path()), &|| false).unwrap();
    assert_eq!(scanned.tree.inodes.len(), 1 + 3 * DEPTH);
    let files = (0..).map(InodeId).zip(&scanned.tree.inodes);
    let files = files.filter(|(_, inode)| matches!(inode.node, Node::Regular(_)));
    let mut found: Vec<String> = files
        .map(|(id, _)| {
            let mut text = String::new();
            scanned.contents.open(id).unwrap().read_to_string(&mut text).unwrap();
            text
        })
        .collect();
    let mut expected: Vec<String> = (0..DEPTH).map(|level| level.to_string()).collect();
    expected.sort();
    found.sort();
    assert!(found == expected, "{} files", found.len());
    let output = TempDir::new().unwrap();
    build(top.path(), &output.path().join("layer.erofs"));
}

#[test]
fn what_is_mounted_inside_is_refused_by_its_path() {
    let top = TempDir::new().unwrap();
    let point = top.path().join("a/point");
    fs::create_dir_all(&point).unwrap();
    let other = TempDir::new().unwrap();
    if let Err(error) = rustix::mount::mount_bind(other.path(), &point) {
        return skip(
            "what_is_mounted_inside_is_refused_by_its_path",
            format!("a bind mount needs root: {error}"),
        );
    }
    let result = upper::scan(open(top.path()), &|| false);
    unmount(&point);
    let error = result.unwrap_err();
    assert!(matches!(&error, upper::Error::Mounted { path } if path == Path::new("/a/point")), "{error}");
}

#[test]
fn a_stop_ends_the_work_between_files_and_within_a_large_one() {
    let top = TempDir::new().unwrap();
    for name in ["a", "b", "c"] {
        fs::write(top.path().join(name), vec![1; 5 << 20]).unwrap();
    }
    let calls = std::cell::Cell::new(0);
    let stop = |limit: u32| {
        calls.set(calls.get() + 1);
        calls.get() > limit
    };
    let output = TempDir::new().unwrap();
    let unique: Unique = UNIQUE.parse().unwrap();
    for limit in 0..18 {
        calls.set(0);
        let image = output.path().join(limit.to_string());
        let result =
            written::build(open(top.path()), &image, unique, HashTree::Without, &|_| {}, &|| stop(limit));
        assert!(matches!(result, Err(written::Error::Upper(upper::Error::Stopped))), "{limit}: {result:?}");
    }
    calls.set(0);
    let result = written::build(
        open(top.path()),
        &output.path().join("last"),
        unique,
        HashTree::Without,
        &|_| {},
        &|| stop(18),
    );
    assert!(result.is_ok(), "{result:?}");
}

#[test]
fn hard_links_stay_one_file() {
    let top = TempDir::new().unwrap();
    fs::create_dir(top.path().join("sub")).unwrap();
    fs::write(top.path().join("sub/one"), vec![7; 9000]).unwrap();
    fs::hard_link(top.path().join("sub/one"), top.path().join("two")).unwrap();
    assert_eq!(fs::metadata(top.path().join("two")).unwrap().nlink(), 2);
    let tree = upper::scan(open(top.path()), &|| false).unwrap().tree;
    assert_eq!(tree.inodes.len(), 3);
}
