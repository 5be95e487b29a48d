//! What the kernel has of what layers and writable blocks need.

use std::fs;
use std::path::Path;

use nexuserofs_guest::dm::{DeviceMapper, Error as MapperError};
use rustix::system::uname;

use super::finding::{Area, Finding};
use super::root::nearest;
use crate::config::{Flavour, Settings, VerityMode, WritableLayer};
use crate::expose::probe::{self, ErofsMounts};
use crate::layer::protection::has_fsverity;

const FILE_SYSTEMS: &str = "/proc/filesystems";
const LOOP_CONTROL: &str = "/dev/loop-control";
/// Where udev listens, without which nobody makes names in `/dev/mapper`.
const UDEV: &str = "/run/udev/control";

pub(super) fn check(settings: &Settings) -> Vec<Finding> {
    let mut findings = vec![
        file_system("erofs", "mounts of layers"),
        file_system("overlay", "every container"),
        writable_block(settings),
        loop_devices(),
        erofs_mounts(settings),
    ];
    findings.extend(verity(settings));
    findings.extend(fsverity(settings));
    findings
}

/// A file system that everything needs.
fn file_system(name: &'static str, user: &str) -> Finding {
    match Support::of(name) {
        Support::Present => Area::Kernel.ok(name, "the kernel has it"),
        Support::Module => Area::Kernel.ok(name, "a module, which the first mount loads"),
        Support::Missing => Area::Kernel.failure(
            name,
            format!("the kernel has no {name}, which {user} need"),
            format!("load its module, `modprobe {name}`, or use a kernel with it"),
        ),
    }
}

fn writable_block(settings: &Settings) -> Finding {
    let is_wanted =
        settings.profiles.values().any(|profile| profile.writable_layer != WritableLayer::Directory);
    match Support::of("ext4") {
        Support::Missing if is_wanted => Area::Kernel.failure(
            "ext4",
            "the kernel has no ext4, which writable blocks are",
            "load its module, `modprobe ext4`, or take default_size away",
        ),
        Support::Missing => Area::Kernel.ok("ext4", "missing, and no profile makes writable blocks"),
        Support::Present | Support::Module => Area::Kernel.ok("ext4", "the kernel has it"),
    }
}

fn loop_devices() -> Finding {
    if Path::new(LOOP_CONTROL).exists() {
        return Area::Kernel.ok("loop", "the kernel has loop devices");
    }
    Area::Kernel.warning(
        "loop",
        format!("there is no {LOOP_CONTROL}: writable blocks cannot be mounted on this host"),
        "load the module, `modprobe loop`",
    )
}

/// Whether images are mounted without loop devices, on the file system on which they lie.
fn erofs_mounts(settings: &Settings) -> Finding {
    const CHECK: &str = "file-backed mounts";
    let directory = nearest(settings.root.as_path());
    match probe::erofs_mounts(directory) {
        Ok(ErofsMounts::Files) => {
            let text = format!("EROFS images in {} are mounted from their files", directory.display());
            Area::Kernel.ok(CHECK, text)
        }
        Ok(ErofsMounts::LoopDevices) => Area::Kernel.warning(
            CHECK,
            "EROFS images are mounted through a loop device each",
            "Linux 6.12 with EROFS_FS_BACKED_BY_FILE does without",
        ),
        Ok(ErofsMounts::None) => Area::Kernel.failure(
            CHECK,
            "the kernel mounts no EROFS images",
            "load the module, `modprobe erofs`, or use a kernel with CONFIG_EROFS_FS",
        ),
        Err(error) => Area::Kernel.unknown(CHECK, error, "run this as root, on the host"),
    }
}

/// dm-verity, if a profile is to check layers by it. Whoever follows a template mounts for itself.
fn verity(settings: &Settings) -> Vec<Finding> {
    const CHECK: &str = "dm-verity";
    let wanted: Vec<_> =
        settings.profiles.values().filter(|profile| profile.verity != VerityMode::Off).collect();
    if wanted.is_empty() {
        return vec![Area::Kernel.ok(CHECK, "no profile asks for it")];
    }
    let is_required = wanted.iter().any(|profile| profile.verity == VerityMode::Require);
    let missing = match DeviceMapper::open().map(|mapper| mapper.verity_version()) {
        Ok(Ok(Some(version))) => {
            let text = format!("target {}.{}.{}", version.major, version.minor, version.patch);
            let mut findings = vec![Area::Kernel.ok(CHECK, text)];
            if wanted.iter().any(|profile| profile.flavour == Flavour::Template) {
                findings.push(udev());
            }
            return findings;
        }
        Ok(Ok(None)) => MapperError::NoVerity.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(error @ MapperError::Denied { .. }) => {
            return vec![Area::Kernel.unknown(CHECK, error, "run this as root, on the host")];
        }
        Err(error) => error.to_string(),
    };
    let advice = "virtual machines check layers with the guest's kernel; on this host they are read unchecked, and \
                  with \"require\" in the flavour \"host\" not at all";
    vec![match is_required {
        true => Area::Kernel.failure(CHECK, missing, advice),
        false => Area::Kernel.warning(CHECK, missing, advice),
    }]
}

fn udev() -> Finding {
    if Path::new(UDEV).exists() {
        return Area::Kernel.ok("udev", "it makes the names that containerd's mount manager waits for");
    }
    Area::Kernel.warning(
        "udev",
        "nobody makes names in /dev/mapper, for which containerd's mount manager waits",
        "start udev, or use a profile of the flavour \"host\"",
    )
}

/// fs-verity, if layers are to be sealed with it.
fn fsverity(settings: &Settings) -> Option<Finding> {
    const CHECK: &str = "fs-verity";
    if !settings.layers.fsverity {
        return None;
    }
    let staging = settings.root.as_path().join("staging");
    let directory = if staging.is_dir() { &staging } else { nearest(settings.root.as_path()) };
    Some(match has_fsverity(directory) {
        Ok(true) => Area::Kernel.ok(CHECK, "layers can be sealed"),
        Ok(false) => Area::Kernel.failure(
            CHECK,
            format!("enable_fsverity is on, and the file system of {} cannot seal files", directory.display()),
            "use ext4 made with `-O verity` or Btrfs, and a kernel with CONFIG_FS_VERITY, or turn the setting off",
        ),
        Err(error) => Area::Kernel.unknown(CHECK, error, "run this as root"),
    })
}

/// Whether the kernel has a file system.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Support {
    Present,
    /// Not yet.
    Module,
    Missing,
}

impl Support {
    fn of(name: &str) -> Self {
        let known = fs::read_to_string(FILE_SYSTEMS).unwrap_or_default();
        if known.lines().any(|line| line.split_whitespace().next_back() == Some(name)) {
            return Self::Present;
        }
        let release = uname().release().to_string_lossy().into_owned();
        let list = Path::new("/lib/modules").join(release).join("modules.dep");
        match fs::read_to_string(list).is_ok_and(|modules| has_module(&modules, name)) {
            true => Self::Module,
            false => Self::Missing,
        }
    }
}

/// Whether a list of modules (modules.dep(5)) has the one with this name.
fn has_module(list: &str, name: &str) -> bool {
    let files = list.lines().filter_map(|line| line.split(':').next());
    let names = files.filter_map(|file| file.rsplit('/').next()?.split_once(".ko"));
    names.into_iter().any(|(module, _)| module == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_found_by_name() {
        let list = "kernel/fs/erofs/erofs.ko.xz: kernel/lib/lz4.ko.xz\nkernel/fs/overlayfs/overlay.ko:\n";
        assert!(has_module(list, "erofs") && has_module(list, "overlay"));
        assert!(!has_module(list, "lz4") && !has_module(list, "fs") && !has_module(list, "erof"));
    }

    #[test]
    fn what_no_kernel_has_is_missing() {
        assert!(Support::of("nexuserofs") == Support::Missing);
        assert!(Support::of("proc") == Support::Present);
    }
}
