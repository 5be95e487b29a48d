//! Writable blocks against e2fsprogs and the kernel.

// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used)]

#[path = "../helpers/skipped.rs"]
mod skipped;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Output};

use nexuserofs::expose::block::{BlockTemplates, rounded_size, was_mounted};
use nexuserofs::expose::overlay::Owner;
use nexuserofs::layer::RootAttributes;
use rustix::fs::lgetxattr;
use tempfile::TempDir;

use crate::skipped::skip;

const MIB: u64 = 1 << 20;

fn run(program: &str, arguments: &[&str], path: &Path) -> Output {
    Command::new(program).args(arguments).arg(path).output().unwrap()
}

fn create(
    templates: &BlockTemplates,
    directory: &Path,
    name: &str,
    size: u64,
    root: &RootAttributes,
) -> std::path::PathBuf {
    let path = directory.join(name);
    templates.create(&path, size, root, Owner::ROOT, directory).unwrap();
    path
}

fn superblock_field(path: &Path, field: &str) -> String {
    let output = run("dumpe2fs", &["-h"], path);
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().to_owned()
}

#[test]
fn e2fsck_finds_every_size_clean() {
    let (templates, directory) = (BlockTemplates::new(), TempDir::new().unwrap());
    for size in [16 * MIB, 64 * MIB, 1024 * MIB, 20 * 1024 * MIB] {
        let path = create(&templates, directory.path(), &size.to_string(), size, &RootAttributes::default());
        let check = run("e2fsck", &["-f", "-n"], &path);
        assert!(check.status.success(), "{size}: {}", String::from_utf8_lossy(&check.stdout));
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(metadata.len(), size);
        assert!(metadata.blocks() * 512 < 2 * MIB, "{size}: {} blocks", metadata.blocks());
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 4, "nothing of mkfs.ext4 is left");
}

#[test]
fn a_size_is_rounded_up_to_whole_blocks() {
    let directory = TempDir::new().unwrap();
    let path =
        create(&BlockTemplates::new(), directory.path(), "odd", 64 * MIB + 1, &RootAttributes::default());
    assert_eq!(fs::metadata(path).unwrap().len(), 64 * MIB + 4096);
}

#[test]
fn blocks_of_one_template_have_their_own_uuid() {
    let (templates, directory) = (BlockTemplates::new(), TempDir::new().unwrap());
    let uuids: Vec<String> = ["a", "b"]
        .map(|name| create(&templates, directory.path(), name, 64 * MIB, &RootAttributes::default()))
        .iter()
        .map(|path| superblock_field(path, "Filesystem UUID:"))
        .collect();
    assert_ne!(uuids[0], uuids[1]);
    assert_eq!(uuids[0].as_bytes()[14], b'4', "a version 4 UUID");
}

#[test]
fn a_size_that_mkfs_refuses_is_reported_in_its_words() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("tiny");
    let error = BlockTemplates::new()
        .create(&path, 4096, &RootAttributes::default(), Owner::ROOT, directory.path())
        .unwrap_err();
    assert!(error.to_string().contains("mkfs.ext4 cannot format a writable block of 4096 bytes"), "{error}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn owners_need_no_template_of_their_own_and_e2fsck_finds_them_right() {
    let (templates, directory) = (BlockTemplates::new(), TempDir::new().unwrap());
    let owned = |name: &str, root: (u32, u32), work: (u32, u32)| {
        let path = directory.path().join(name);
        let attributes = RootAttributes { uid: root.0, gid: root.1, ..RootAttributes::default() };
        let work = Owner { uid: work.0, gid: work.1 };
        templates.create(&path, 64 * MIB, &attributes, work, directory.path()).unwrap();
        let check = run("e2fsck", &["-f", "-n"], &path);
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
        ["/upper", "/work"].map(|directory| debugfs_owner(&path, directory))
    };
    assert_eq!(owned("plain", (0, 0), (0, 0)), [(0, 0), (0, 0)]);
    assert_eq!(owned("mapped", (4_294_967_290, 65_536), (1, 70_000)), [(4_294_967_290, 65_536), (1, 70_000)]);
    assert_eq!(owned("again", (0, 0), (0, 0)), [(0, 0), (0, 0)], "the template has nobody's owner");
}

/// Owner and group of a directory in a block, as e2fsprogs sees them.
fn debugfs_owner(block: &Path, directory: &str) -> (u32, u32) {
    let output = run("debugfs", &["-R", &format!("stat {directory}")], block);
    let text = String::from_utf8(output.stdout).unwrap();
    let after = |word: &str| {
        let rest = text.split(word).nth(1).unwrap().trim_start();
        // It prints the largest ones as negative numbers.
        rest.split_whitespace().next().unwrap().parse::<i64>().unwrap() as u32
    };
    (after("User:"), after("Group:"))
}

#[test]
fn sizes_that_clients_choose_fall_into_few() {
    for size in [16 * MIB, 17 * MIB, 1000 * MIB + 1, 20_000 * MIB, (16 << 40) - 4096] {
        let rounded = rounded_size(size);
        assert!(rounded >= size && rounded - size <= (size / 32).max(MIB), "{size}: {rounded}");
    }
    let classes: std::collections::BTreeSet<u64> =
        (0..1000).map(|step| rounded_size(16 * 1024 * MIB + 1 + step * 7 * MIB)).collect();
    assert!(classes.len() <= 32, "{}", classes.len());
}

#[test]
fn a_file_that_exists_is_kept() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("kept");
    fs::write(&path, "content").unwrap();
    assert!(
        BlockTemplates::new()
            .create(&path, 64 * MIB, &RootAttributes::default(), Owner::ROOT, directory.path())
            .is_err()
    );
    assert_eq!(fs::read(&path).unwrap(), b"content");
}

#[test]
fn the_kernel_shows_the_root_of_the_image_in_upper() {
    let directory = TempDir::new().unwrap();
    let xattrs = BTreeMap::from([
        (b"user.origin".to_vec(), b"image".to_vec()),
        (b"trusted.kept".to_vec(), vec![0, 255]),
    ]);
    let root = RootAttributes { mode: 0o1777, uid: 70_000, gid: 5, xattrs };
    if !rustix::process::geteuid().is_root() {
        skip("the_kernel_shows_the_root_of_the_image_in_upper", "needs root");
        return;
    }
    let path = create(&BlockTemplates::new(), directory.path(), "block", 64 * MIB, &root);
    let (upper, origin, kept, work_mode) = mounted(&path, "loop", observe);
    assert_eq!((upper.mode() & 0o7777, upper.uid(), upper.gid()), (0o1777, 70_000, 5));
    assert_eq!((origin, kept), (b"image".to_vec(), vec![0, 255]));
    assert_eq!(work_mode, 0o711);
}

/// Mounts a block beside itself for as long as `look` takes.
fn mounted<T>(block: &Path, options: &str, look: impl FnOnce(&Path) -> T) -> T {
    let target = block.with_extension("mounted");
    fs::create_dir(&target).unwrap();
    let output = Command::new("mount").args(["-o", options]).args([block, &target]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen = look(&target);
    assert!(run("umount", &[], &target).status.success());
    fs::remove_dir(target).unwrap();
    seen
}

#[test]
fn a_writable_mount_leaves_a_trace_at_once_and_a_read_only_one_leaves_none() {
    if !rustix::process::geteuid().is_root() {
        skip("a_writable_mount_leaves_a_trace_at_once_and_a_read_only_one_leaves_none", "needs root");
        return;
    }
    let directory = TempDir::new().unwrap();
    let path =
        create(&BlockTemplates::new(), directory.path(), "block", 64 * MIB, &RootAttributes::default());
    assert!(!was_mounted(&path).unwrap());
    mounted(&path, "loop,ro", |_| ());
    assert!(!was_mounted(&path).unwrap());
    assert!(mounted(&path, "loop", |_| was_mounted(&path).unwrap()), "while it is mounted");
    assert!(was_mounted(&path).unwrap());
}

#[test]
fn a_mount_count_or_a_mount_time_is_a_trace() {
    let (templates, directory) = (BlockTemplates::new(), TempDir::new().unwrap());
    let path = create(&templates, directory.path(), "count", 64 * MIB, &RootAttributes::default());
    assert!(run("tune2fs", &["-C", "256"], &path).status.success());
    assert!(was_mounted(&path).unwrap());
    let path = create(&templates, directory.path(), "time", 64 * MIB, &RootAttributes::default());
    assert!(run("debugfs", &["-w", "-R", "set_super_value mtime 256"], &path).status.success());
    assert_eq!(superblock_field(&path, "Mount count:"), "0");
    assert!(was_mounted(&path).unwrap());
}

/// What mkfs.ext4 chose at random: the same for all blocks of one template.
fn template_of(path: &Path) -> String {
    superblock_field(path, "Directory Hash Seed:")
}

#[test]
fn a_template_in_use_outlives_many_that_are_used_once() {
    let (templates, directory) = (BlockTemplates::new(), TempDir::new().unwrap());
    let block = |name: &str, mode| {
        let root = RootAttributes { mode, ..RootAttributes::default() };
        template_of(&create(&templates, directory.path(), name, 16 * MIB, &root))
    };
    let common = block("first", 0o755);
    for rare in 0..20 {
        block(&format!("rare {rare}"), 0o700 + rare);
        assert_eq!(block(&format!("common {rare}"), 0o755), common, "after {rare}");
    }
    assert_ne!(block("rare", 0o700), common);
}

/// Directories on file systems that hold attributes of different sizes.
fn hosts() -> Vec<TempDir> {
    let memory = tempfile::tempdir_in("/dev/shm");
    if let Err(error) = &memory {
        skip("attributes_that_ext4_cannot_hold_are_left_out", format!("tmpfs only: {error}"));
    }
    memory.into_iter().chain([TempDir::new().unwrap()]).collect()
}

#[test]
fn attributes_that_ext4_cannot_hold_are_left_out() {
    let attribute = |name: &str, bytes| (name.as_bytes().to_vec(), vec![b'v'; bytes]);
    for directory in hosts() {
        let many = (0..200).map(|number| attribute(&format!("user.{number:03}"), 60));
        let large = [attribute("user.big", 60 << 10), attribute("user.small", 10)];
        for (name, xattrs) in [("large", large.into()), ("many", many.collect::<BTreeMap<_, _>>())] {
            let root = RootAttributes { xattrs, ..RootAttributes::default() };
            let path = create(&BlockTemplates::new(), directory.path(), name, 64 * MIB, &root);
            let check = run("e2fsck", &["-f", "-n"], &path);
            assert!(check.status.success(), "{name}: {}", String::from_utf8_lossy(&check.stdout));
            let listed = run("debugfs", &["-R", "ea_list upper"], &path);
            let listed = String::from_utf8(listed.stdout).unwrap();
            let kept = listed.matches("user.").count();
            assert!(!listed.contains("user.big"), "{listed}");
            assert_eq!(listed.contains("user.small"), name == "large", "{listed}");
            assert_eq!(kept > 40, name == "many", "{kept} of {}", directory.path().display());
        }
    }
}

fn observe(mounted: &Path) -> (fs::Metadata, Vec<u8>, Vec<u8>, u32) {
    let upper = mounted.join("upper");
    let attribute = |name: &str| {
        let mut value = vec![0; 64];
        let length = lgetxattr(&upper, name, &mut value[..]).unwrap();
        value.truncate(length);
        value
    };
    let work_mode = fs::metadata(mounted.join("work")).unwrap().mode() & 0o7777;
    (fs::metadata(&upper).unwrap(), attribute("user.origin"), attribute("trusted.kept"), work_mode)
}
