//! Archives that GNU tar and Python's `tarfile` made.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use nexuserofs::image::tar::XATTR_IMPLICIT;
use nexuserofs::image::tree::{FileData, InodeId, Node};
use rustix::fs::{CWD, Mode, XattrFlags, mkfifoat, setxattr};

use crate::listing::{Image, list, read};
use crate::skipped::skip;

/// What an archive format can express.
#[derive(Clone, Copy, Debug)]
struct Format {
    options: &'static [&'static str],
    long_paths: bool,
    fifos: bool,
    times_before_1970: bool,
    nanoseconds: bool,
    xattrs: bool,
}

const V7: Format = Format {
    options: &["--format=v7"],
    long_paths: false,
    fifos: false,
    times_before_1970: false,
    nanoseconds: false,
    xattrs: false,
};
const USTAR: Format = Format { options: &["--format=ustar"], fifos: true, ..V7 };
const OLD_GNU: Format =
    Format { options: &["--format=oldgnu"], long_paths: true, fifos: true, times_before_1970: true, ..V7 };
const GNU: Format = Format { options: &["--format=gnu", "--sparse"], ..OLD_GNU };
const PAX: Format =
    Format { options: &["--format=posix", "--xattrs"], nanoseconds: true, xattrs: true, ..OLD_GNU };
const SPARSE_0_0: Format =
    Format { options: &["--format=posix", "--sparse", "--sparse-version=0.0"], xattrs: false, ..PAX };
const SPARSE_0_1: Format =
    Format { options: &["--format=posix", "--sparse", "--sparse-version=0.1"], ..SPARSE_0_0 };
const SPARSE_1_0: Format =
    Format { options: &["--format=posix", "--sparse", "--sparse-version=1.0"], ..SPARSE_0_0 };

/// A file of three runs with holes between them.
fn make_sparse_file(path: &Path) {
    let file = File::create(path).unwrap();
    file.set_len(3 << 20).unwrap();
    for (offset, length) in [(0, 10), (1 << 20, 70_000), ((3 << 20) - 5, 5)] {
        file.write_all_at(&vec![b'd'; length], offset).unwrap();
    }
}

fn make_tree(root: &Path, format: Format) {
    let at = |path: &str| root.join(path);
    fs::create_dir_all(at("dir/sub")).unwrap();
    fs::write(at("dir/empty"), "").unwrap();
    fs::write(at("dir/hello"), "hello").unwrap();
    fs::write(at("dir/sub/large"), (0..=255).cycle().take(300_000).collect::<Vec<u8>>()).unwrap();
    symlink("../nowhere", at("dir/link")).unwrap();
    fs::hard_link(at("dir/hello"), at("dir/sub/hello again")).unwrap();
    fs::write(root.join(std::ffi::OsStr::from_bytes(b"caf\xe9 \xff")), "x").unwrap();
    make_sparse_file(&at("sparse"));
    if format.long_paths {
        let deep = root.join(["d"; 60].join("/")).join("n".repeat(200));
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("f".repeat(255)), "deep").unwrap();
        symlink("t".repeat(300), at("long link")).unwrap();
    }
    if format.fifos {
        mkfifoat(CWD, at("fifo"), Mode::from_raw_mode(0o640)).unwrap();
    }
    for (path, mode) in [("dir", 0o1777), ("dir/hello", 0o4751), ("dir/empty", 0o400), ("dir/sub", 0o2700)] {
        fs::set_permissions(at(path), PermissionsExt::from_mode(mode)).unwrap();
    }
    let times = [("dir/hello", 1_234_567_890.123_456_7), ("dir/sub", 86_400.5), ("dir", 0.0)];
    for (path, seconds) in times {
        set_time(&at(path), SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds));
    }
    if format.times_before_1970 {
        set_time(&at("dir/empty"), SystemTime::UNIX_EPOCH - Duration::from_millis(86_400_250));
    }
}

fn set_time(path: &Path, time: SystemTime) {
    File::open(path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
}

/// Gives two inodes an attribute, or none and a word about it where the file system takes none.
fn make_xattrs(root: &Path) -> BTreeMap<u64, Vec<u8>> {
    let value = b"two\nlines\0and=more".to_vec();
    let paths = [root.join("dir/hello"), root.join("dir/sub")];
    for path in &paths {
        if let Err(error) = setxattr(path, "user.test", &value, XattrFlags::empty()) {
            skip("archives_of_gnu_tar", format!("attributes only: {} takes none: {error}", root.display()));
            return BTreeMap::new();
        }
    }
    paths.into_iter().map(|path| (fs::metadata(path).unwrap().ino(), value.clone())).collect()
}

/// Fails unless the image is what lies in the directory.
fn compare(root: &Path, format: Format, xattrs: &BTreeMap<u64, Vec<u8>>, image: &Image) {
    let paths = image.paths();
    let mut inodes: BTreeMap<u64, InodeId> = BTreeMap::new();
    let mut count = 0;
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        count += 1;
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let inside = Path::new("/").join(path.strip_prefix(root).unwrap());
        let id = paths[inside.as_os_str().as_bytes()];
        assert_eq!(*inodes.entry(metadata.ino()).or_insert(id), id, "{}", path.display());
        compare_inode(&path, &metadata, format, image, id);
        let expected = xattrs.get(&metadata.ino()).map(|value| (b"user.test".to_vec(), value.clone()));
        let found = image.inode(id).metadata.xattrs.clone();
        assert!(found.into_iter().eq(expected), "attributes of {}", path.display());
    }
    assert_eq!(count, paths.len());
    assert_eq!(inodes.len(), paths.values().collect::<std::collections::BTreeSet<_>>().len());
}

fn compare_inode(path: &Path, expected: &fs::Metadata, format: Format, image: &Image, id: InodeId) {
    let inode = image.inode(id);
    let found = &inode.metadata;
    assert_eq!(u32::from(found.mode), expected.mode() & 0o7777, "{}", path.display());
    assert_eq!((found.uid, found.gid), (expected.uid(), expected.gid()), "{}", path.display());
    let nanoseconds = if format.nanoseconds { expected.mtime_nsec() } else { 0 };
    let time = (found.mtime.seconds, i64::from(found.mtime.nanoseconds));
    assert_eq!(time, (expected.mtime(), nanoseconds), "{}", path.display());
    match &inode.node {
        Node::Directory(_) => assert!(expected.is_dir()),
        Node::Regular(data) => assert!(image.content(data) == fs::read(path).unwrap(), "{}", path.display()),
        Node::Symlink(target) => assert_eq!(target, fs::read_link(path).unwrap().as_os_str().as_bytes()),
        Node::Fifo => assert_eq!(expected.mode() >> 12, 0o1),
        other => panic!("{}: {other:?}", path.display()),
    }
}

/// Makes a tree, has GNU tar pack it, and compares.
fn check_gnu_tar(format: Format) -> (tempfile::TempDir, Image) {
    let directory = tempfile::tempdir().unwrap();
    let (root, packed) = (directory.path().join("root"), directory.path().join("packed.tar"));
    fs::create_dir(&root).unwrap();
    make_tree(&root, format);
    let xattrs = if format.xattrs { make_xattrs(&root) } else { BTreeMap::new() };
    let output = Command::new("tar")
        .args(format.options)
        .arg("--numeric-owner")
        .arg("-cf")
        .arg(&packed)
        .arg("-C")
        .arg(&root)
        .arg(".")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let image = read(&fs::read(packed).unwrap()).unwrap();
    assert!(image.layer.root.is_some());
    assert!(!image.at("/").metadata.xattrs.contains_key(XATTR_IMPLICIT));
    compare(&root, format, &xattrs, &image);
    (directory, image)
}

fn stored_blocks(image: &Image) -> u32 {
    match &image.at("/sparse").node {
        Node::Regular(FileData { extents, .. }) => extents.iter().map(|extent| extent.blocks).sum(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn archives_of_gnu_tar() {
    for format in [V7, USTAR, OLD_GNU, PAX] {
        check_gnu_tar(format);
    }
}

#[test]
fn sparse_archives_of_gnu_tar() {
    for format in [GNU, SPARSE_0_0, SPARSE_0_1, SPARSE_1_0] {
        let (directory, image) = check_gnu_tar(format);
        let blocks = fs::metadata(directory.path().join("root/sparse")).unwrap().blocks();
        if blocks * 512 >= 3 << 20 {
            let path = directory.path().display();
            skip("sparse_archives_of_gnu_tar", format!("the count of blocks only: {path} keeps no holes"));
            continue;
        }
        assert!(stored_blocks(&image) < 100, "{format:?}");
    }
}

/// Members that need no files and no rights: what `tarfile` writes is what it is told.
const PYTHON: &str = r#"
import io, sys, tarfile
form = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}[sys.argv[1]]
out = tarfile.open(fileobj=sys.stdout.buffer, mode="w|", format=form, errors="surrogateescape", encoding="utf-8")
def add(name, type=tarfile.REGTYPE, data=b"", **fields):
    info = tarfile.TarInfo(name)
    info.type, info.size = type, len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    out.addfile(info, io.BytesIO(data))
add("dir", tarfile.DIRTYPE, mode=0o1777, mtime=1234567890)
add("dir/file", data=b"hello", mode=0o4755, uid=1000, gid=65536)
add("dir/hard", tarfile.LNKTYPE, linkname="dir/file", mode=0o4755, uid=1000, gid=65536)
add("dir/link", tarfile.SYMTYPE, linkname="../x")
add("char", tarfile.CHRTYPE, devmajor=5, devminor=300)
add("block", tarfile.BLKTYPE, devmajor=259, devminor=1)
add("fifo", tarfile.FIFOTYPE)
add("contiguous", tarfile.CONTTYPE, data=b"x")
add("caf\u00e9\udcff", data=b"y")
if form != tarfile.USTAR_FORMAT:
    add("p/" * 100 + "n" * 150, data=b"long", uid=4294967294, gid=2097152, mtime=-5)
if form == tarfile.PAX_FORMAT:
    add("fraction", mtime=1.25)
    add("xattr", pax_headers={"SCHILY.xattr.user.a": "1"})
out.close()
"#;

#[test]
fn archives_of_python() {
    for format in ["ustar", "gnu", "pax"] {
        let output = match Command::new("python3").args(["-c", PYTHON, format]).output() {
            Ok(output) => output,
            Err(error) => return skip("archives_of_python", format!("python3 cannot be run: {error}")),
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(list(&output.stdout), expected_of_python(format), "{format}");
    }
}

fn expected_of_python(format: &str) -> Vec<String> {
    let mut lines: Vec<String> = [
        "/ d0755 implicit",
        "/block b0644 259:1",
        "/caf\\xc3\\xa9\\xff f0644 \"y\"",
        "/char c0644 5:300",
        "/contiguous f0644 \"x\"",
        "/dir d1777 @1234567890.000000000",
        "/dir/file f4755 1000:65536 \"hello\"",
        "/dir/hard = /dir/file",
        "/dir/link l0777 -> ../x",
        "/fifo p0644",
    ]
    .map(str::to_owned)
    .into();
    if format == "pax" {
        lines.push("/fraction f0644 @1.250000000 \"\"".to_owned());
        lines.push("/xattr f0644 \"\" user.a=1".to_owned());
    }
    if format != "ustar" {
        let parents = (1..=100).map(|depth| format!("{} d0755 implicit", "/p".repeat(depth)));
        lines.extend(parents);
        let name = "n".repeat(150);
        lines.push(format!("{}/{name} f0644 4294967294:2097152 @-5.000000000 \"long\"", "/p".repeat(100)));
    }
    lines.sort_by(|a, b| a.split(' ').next().cmp(&b.split(' ').next()));
    lines
}
