//! The plans of every profile that has a name of its own, line by line, for images of 0, 1, 2, 9 and 129 layers.
//!
//! The profiles are those of a settings file, the layers are real, and the snapshotter is asked as containerd
//! asks. A plan, once given out, is the same for ever: a change of these files is a new kind of plan, which
//! belongs under a new name or into the notes of a release. With `NEXUSEROFS_WRITE_PLANS` set they are written.

// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

#[path = "../tar_semantics/archive.rs"]
mod archive;
mod host;
#[path = "../helpers/skipped.rs"]
mod skipped;
#[path = "../helpers/unmounting.rs"]
mod unmounting;

use std::fs;
use std::path::{Path, PathBuf};

use host::{Host, Mode, can_mount};
use nexuserofs::config::{NAMED, Named};
use skipped::skip;

/// Set to write the files instead of comparing with them.
const WRITE: &str = "NEXUSEROFS_WRITE_PLANS";

/// Layers of the images. A disk with a partition for each layer has 128; one more is too many for some.
const LAYERS: [usize; 5] = [0, 1, 2, 9, 129];

fn golden(profile: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans/golden").join(format!("{profile}.txt"))
}

/// Every plan of a profile as text, from a host in directory mode and one in block mode.
fn plans(profile: &str, hosts: &[(Mode, Host)]) -> String {
    let mut text = String::new();
    for (mode, host) in hosts {
        host.commit_layers(profile, LAYERS.into_iter().max().unwrap());
        for count in LAYERS {
            text += &format!("## active, {mode}, layers: {count}\n{}\n", host.active(profile, count));
            // What takes the writes plays no part in a view.
            if *mode == Mode::Directory {
                text += &format!("## view, layers: {count}\n{}\n", host.view(profile, count));
            }
        }
    }
    text
}

fn check(profiles: &[&str]) {
    let hosts = [Mode::Directory, Mode::Block].map(|mode| (mode, Host::start(profiles, mode)));
    for profile in profiles {
        let (path, found) = (golden(profile), plans(profile, &hosts));
        if std::env::var_os(WRITE).is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &found).unwrap();
        }
        let expected =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for (number, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
            assert_eq!(found, expected, "{profile}, line {}", number + 1);
        }
        assert_eq!(found.lines().count(), expected.lines().count(), "{profile}");
    }
}

#[test]
fn plans_of_template_profiles_are_what_they_were() {
    // The disks of the flavour "vhost-user" are served by a program beside the daemon, which is not there.
    let is_listed = |named: &&Named| matches!(named.flavour, "template" | "raw");
    let others = NAMED.iter().filter(is_listed).map(|named| named.name);
    check(&others.collect::<Vec<_>>());
}

#[test]
fn plans_of_the_host_profile_are_what_they_were() {
    if let Err(reason) = can_mount() {
        return skip("plans_of_the_host_profile_are_what_they_were", reason);
    }
    check(&["nexuserofs-host"]);
}
