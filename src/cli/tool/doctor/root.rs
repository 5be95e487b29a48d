//! The directory of the daemon's data.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{StatFs, statfs};

use super::finding::{Area, Finding};
use crate::client::Connection;
use crate::config::{ProjectQuota, Settings, WritableLayer};
use crate::expose::probe;

/// Of a file system's space, the part that should be free.
const FREE_SHARE: u64 = 10;

/// File systems that layers should not lie on, by magic number (statfs(2)), and why.
const UNFIT: [(u64, &str, &str); 5] = [
    (0x794c_7630, "overlayfs", "it has neither the immutable attribute nor overlay directories of its own"),
    (0x0102_1994, "tmpfs", "it is gone after a restart, and takes memory"),
    (0x6969, "NFS", "locks and renames there are not what the daemon relies on"),
    (0xff53_4d42, "CIFS", "locks and renames there are not what the daemon relies on"),
    (0x0102_1997, "9p", "files there cannot be mounted"),
];

pub(super) fn check(settings: &Settings) -> Vec<Finding> {
    let root = settings.root.as_path();
    let mut findings = vec![directory(root), file_system(root)];
    if !root.is_dir() {
        return findings;
    }
    findings.extend(quotas(settings));
    findings.extend(incomplete(root));
    if Connection::open(&settings.address).is_err() {
        findings.extend(leftovers(root));
    }
    findings
}

/// The directory, or the one above it that is there.
pub(super) fn nearest(root: &Path) -> &Path {
    root.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"))
}

fn directory(root: &Path) -> Finding {
    const CHECK: &str = "directory";
    let shown = root.display();
    match root.metadata() {
        Ok(found) if !found.is_dir() => {
            Area::Root.failure(CHECK, format!("{shown} is no directory"), "move it away, or set another root")
        }
        Ok(found) if is_open(&found) => Area::Root.failure(
            CHECK,
            format!("others than root can write to {shown}"),
            format!("`chown root:root {shown} && chmod 0700 {shown}`: layers are shared by all containers"),
        ),
        Ok(_) => Area::Root.ok(CHECK, format!("{shown} belongs to root")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Area::Root.ok(CHECK, format!("{shown} is not there; the first start makes it"))
        }
        Err(error) => {
            Area::Root.unknown(CHECK, format!("cannot look at {shown}: {error}"), "run this as root")
        }
    }
}

/// Whether others than root can put something into the directory.
fn is_open(found: &Metadata) -> bool {
    found.uid() != 0 || found.mode() & 0o022 != 0
}

fn file_system(root: &Path) -> Finding {
    const CHECK: &str = "file system";
    let directory = nearest(root);
    let shown = directory.display();
    let found = match statfs(directory) {
        Ok(found) => found,
        Err(error) => {
            return Area::Root.unknown(CHECK, format!("cannot look at {shown}: {error}"), "run this as root");
        }
    };
    if let Some((_, name, why)) = UNFIT.iter().find(|(magic, ..)| *magic == magic_of(&found)) {
        let advice = "put the root on ext4, XFS or Btrfs";
        return Area::Root.warning(CHECK, format!("{shown} lies on {name}: {why}"), advice);
    }
    let (free, all) = (space(&found, found.f_bavail), space(&found, found.f_blocks));
    let text = format!("{} MiB of {} MiB are free where {shown} lies", free >> 20, all >> 20);
    match free.saturating_mul(FREE_SHARE) < all {
        true => Area::Root.warning(CHECK, text, "remove images, or give the root a larger file system"),
        false => Area::Root.ok(CHECK, text),
    }
}

fn magic_of(found: &StatFs) -> u64 {
    // Some architectures have it signed, and none has more than 32 bits.
    u64::from(found.f_type as u32)
}

fn space(found: &StatFs, blocks: u64) -> u64 {
    blocks.saturating_mul(found.f_bsize as u64)
}

/// Project quotas, where a profile writes to directories and insists on limits.
fn quotas(settings: &Settings) -> Option<Finding> {
    const CHECK: &str = "project quotas";
    let directories =
        settings.profiles.values().filter(|profile| profile.writable_layer == WritableLayer::Directory);
    let wishes: Vec<ProjectQuota> = directories.map(|profile| profile.project_quota).collect();
    let root = settings.root.as_path();
    let advice = "mount the file system with prjquota (ext4, XFS), or set default_size for writable blocks";
    match probe::has_project_quotas(root) {
        _ if wishes.iter().all(|wish| *wish == ProjectQuota::Off) => None,
        Ok(true) => Some(Area::Root.ok(CHECK, "sizes that clients ask for limit directories")),
        Ok(false) if wishes.contains(&ProjectQuota::Require) => Some(Area::Root.failure(
            CHECK,
            "a profile requires them and the file system enforces none: clients that ask for a size are refused",
            advice,
        )),
        Ok(false) => {
            // Nobody has to ask for a size, so that is nothing to warn of.
            Some(Area::Root.ok(CHECK, "none: sizes that clients ask for do not limit directories"))
        }
        Err(error) => Some(Area::Root.unknown(CHECK, error, "run this as root")),
    }
}

/// What a start set aside because it could not read it: somebody has to look.
fn incomplete(root: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let unreadable = names(&root.join("unreadable"));
    if !unreadable.is_empty() {
        let found = format!("{} snapshot directories without a readable record lie there", unreadable.len());
        let place = root.join("unreadable");
        let advice = format!("take what is needed out of {}, and delete the rest", place.display());
        findings.push(Area::Root.warning("unreadable", found, advice));
    }
    let damaged: Vec<String> =
        names(root).into_iter().filter(|name| name.contains(".redb.corrupt-")).collect();
    if !damaged.is_empty() {
        let found = format!("a start moved a damaged database aside: {}", damaged.join(", "));
        let advice =
            "the records were collected anew; delete the file once nothing is missed, and check the disk";
        findings.push(Area::Root.warning("damaged database", found, advice));
    }
    findings
}

/// What a daemon that does not run left.
fn leftovers(root: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let staging = names(&root.join("staging"));
    if !staging.is_empty() {
        let found = format!("{} unfinished things lie in {}", staging.len(), root.join("staging").display());
        findings.push(Area::Root.warning(
            "staging",
            found,
            "nothing: the next start of the daemon sweeps them",
        ));
    }
    match probe::mount_points_below(root) {
        Ok(points) if points.is_empty() => {}
        Ok(points) => findings.push(Area::Root.warning(
            "mounts",
            format!("{} mounts below it stay, as {}", points.len(), first(&points)),
            "start the daemon again: containers may use them, and it takes them over",
        )),
        Err(error) => findings.push(Area::Root.unknown("mounts", error, "run this as root")),
    }
    findings
}

fn first(points: &[PathBuf]) -> String {
    points.first().map(|point| point.display().to_string()).unwrap_or_default()
}

/// The names in a directory; none if it cannot be read.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
