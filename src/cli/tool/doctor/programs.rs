//! The programs that the daemon runs.

use std::process::{Command, Stdio};

use super::finding::{Area, Finding};
use crate::config::{Builder, Settings, WritableLayer};
use crate::layer::mkfs::Program;

pub(super) fn check(settings: &Settings) -> Vec<Finding> {
    vec![mkfs_ext4(settings), mkfs_erofs(settings)]
}

/// It runs once for each size of writable blocks, also for those that clients ask for.
fn mkfs_ext4(settings: &Settings) -> Finding {
    const CHECK: &str = "mkfs.ext4";
    let mut command = Command::new("mkfs.ext4");
    let is_there =
        command.arg("-V").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let is_wanted =
        settings.profiles.values().any(|profile| profile.writable_layer != WritableLayer::Directory);
    let advice = "install e2fsprogs 1.47 or newer where the daemon's PATH finds it";
    match (is_there, is_wanted) {
        (Ok(status), _) if status.success() => Area::Programs.ok(CHECK, "there"),
        (Ok(status), _) => Area::Programs.failure(CHECK, format!("it ends with {status}"), advice),
        (Err(error), true) => Area::Programs.failure(
            CHECK,
            format!("it does not start, and a profile needs it: {error}"),
            advice,
        ),
        (Err(_), false) => Area::Programs.ok(CHECK, "missing, and no profile makes writable blocks"),
    }
}

fn mkfs_erofs(settings: &Settings) -> Finding {
    const CHECK: &str = "mkfs.erofs";
    if settings.layers.builder == Builder::Native {
        return Area::Programs.ok(CHECK, "not needed: the daemon builds layers itself");
    }
    match Program::find() {
        Ok(program) => Area::Programs.ok(CHECK, program),
        Err(error) => Area::Programs.failure(CHECK, error, "the daemon does not start without it"),
    }
}
