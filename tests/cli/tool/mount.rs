//! `nexuserofs mount` and `nexuserofs umount`: the kernel's own view of layers.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::super::daemon::Place;
use super::{USAGE, lines, refused, text, tool};
use crate::skipped::skip;

/// The layer of a tar with these files and their contents.
fn layer(place: &Place, name: &str, files: &[(&str, &str)]) -> String {
    let (tree, tar) = (place.path(&format!("{name}.d")), place.arg(name));
    for (path, content) in files {
        let file = tree.join(path);
        fs::create_dir_all(file.parent().expect("directory")).expect("directory");
        fs::write(file, content).expect("file");
    }
    let made =
        Command::new("tar").args(["--create", "--file", &tar, "--directory"]).arg(&tree).arg(".").status();
    assert!(made.expect("tar").success());
    text(&lines(&["build", "--output", &place.arg("layers"), &tar])[0], "file")
}

/// Whether this process can mount a layer at all; if not, says so for `test`.
fn can_mount(test: &str, layer: &str, point: &str) -> bool {
    let output = tool(&["mount", layer, point]);
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    let is_root = rustix::process::geteuid().is_root();
    match output.status.success() {
        true => {
            assert!(tool(&["umount", point]).status.success());
            true
        }
        // Without the right to mount, or in a kernel without EROFS.
        false if !is_root || ["not permitted", "No such device"].iter().any(|words| said.contains(words)) => {
            skip(test, said.trim());
            false
        }
        false => panic!("{said}"),
    }
}

fn read(directory: &Path, name: &str) -> Option<String> {
    fs::read_to_string(directory.join(name)).ok()
}

#[test]
fn layers_are_shown_as_overlayfs_joins_them_until_they_are_unmounted() {
    let place = Place::new();
    let lower = layer(&place, "lower", &[("a/one", "1"), ("a/two", "2"), ("gone", "x")]);
    let upper = layer(&place, "upper", &[("a/two", "new"), (".wh.gone", "")]);
    // A name that overlayfs's options could not hold.
    let (point, directory) = (place.arg("po:i,nt"), place.path("po:i,nt"));
    fs::create_dir(&directory).expect("directory");
    if !can_mount("layers_are_shown_as_overlayfs_joins_them_until_they_are_unmounted", &lower, &point) {
        return;
    }
    assert_eq!(text(&lines(&["mount", &lower, &point])[0], "state"), "mounted");
    assert_eq!(read(&directory, "gone").as_deref(), Some("x"));
    refused(&["mount", &upper, &point], USAGE, "something is mounted on");
    assert_eq!(text(&lines(&["umount", &point])[0], "state"), "unmounted");

    lines(&["mount", &upper, &lower, &point]);
    let both = (read(&directory, "a/one"), read(&directory, "a/two"), read(&directory, "gone"));
    assert_eq!(both, (Some("1".to_owned()), Some("new".to_owned()), None));
    let refusal = fs::write(directory.join("new"), "").map_err(|error| error.kind());
    assert_eq!(refusal, Err(std::io::ErrorKind::ReadOnlyFilesystem));
    let mounted = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let here = mounted.lines().filter(|line| line.contains("po:i,nt")).count();
    assert_eq!(here, 1, "one mount however many layers: {mounted}");
    assert_eq!(text(&lines(&["umount", &point])[0], "state"), "unmounted");
    assert_eq!(text(&lines(&["umount", &point])[0], "state"), "not_mounted");
    assert_eq!(fs::read_dir(&directory).expect("directory").count(), 0);
}

#[test]
fn what_cannot_be_mounted_leaves_nothing_and_what_others_mounted_stays() {
    let place = Place::new();
    let lower = layer(&place, "lower", &[("one", "1")]);
    let (point, directory) = (place.arg("point"), place.path("point"));
    fs::create_dir(&directory).expect("directory");
    let test = "what_cannot_be_mounted_leaves_nothing_and_what_others_mounted_stays";
    if !can_mount(test, &lower, &point) {
        return;
    }
    let broken = place.arg("broken");
    fs::write(&broken, vec![0; 8192]).expect("file");
    let output = tool(&["mount", &lower, &broken, &point]);
    assert!(!output.status.success());
    assert_eq!(text(&lines(&["umount", &point])[0], "state"), "not_mounted");

    rustix::mount::mount_bind(place.path("layers"), &directory).expect("bind mount");
    refused(&["umount", &point], USAGE, "and no view of layers");
    crate::unmounting::unmount(&directory);
}
