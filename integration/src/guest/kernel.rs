//! Kernels of guests: Debian's for clouds, with their modules.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::init::MODULES;
use super::initramfs::Initramfs;
use crate::cache::Cache;
use crate::host::Recipe;
use crate::progress::Outcome;

/// A release of Linux.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Release {
    /// Debian 13's: the first that mounts EROFS from files, with dm-verity, fs-verity and project quotas.
    #[default]
    Linux6_12,
    /// Debian 12's: overlayfs takes all layers in one text only, and EROFS has no single device for a merged image.
    Linux6_1,
}

/// What a release is made of.
struct Parts {
    package: Recipe,
    /// What a guest loads before anything else, each after what it needs. ext4 and fs-verity are built in.
    modules: &'static [&'static str],
}

/// Debian 13's kernel, with the list of its options.
pub(crate) const PACKAGE: Recipe = Recipe {
    name: "guest-kernel",
    suite: "trixie",
    variant: "extract",
    packages: &["linux-image-cloud-amd64"],
};

const LINUX_6_12: Parts = Parts {
    package: PACKAGE,
    modules: &[
        "virtio_blk",
        "scsi_common",
        "scsi_mod",
        "virtio_scsi",
        "sd_mod",
        "loop",
        "dm-mod",
        "dm-bufio",
        "reed_solomon",
        "dm-verity",
        "gf128mul",
        "xts",
        "dm-crypt",
        "libcrc32c",
        "netfs",
        "erofs",
        "overlay",
        "quota_tree",
        "quota_v2",
        "xfs",
    ],
};

const LINUX_6_1: Parts = Parts {
    package: Recipe {
        name: "guest-kernel-6.1",
        suite: "bookworm",
        variant: "extract",
        packages: &["linux-image-cloud-amd64"],
    },
    modules: &[
        "virtio_ring",
        "virtio",
        "virtio_pci_legacy_dev",
        "virtio_pci_modern_dev",
        "virtio_pci",
        "virtio_blk",
        "loop",
        "dm-mod",
        "dm-bufio",
        "reed_solomon",
        "dm-verity",
        "libcrc32c",
        "erofs",
        "overlay",
    ],
};

impl Release {
    const fn parts(self) -> Parts {
        match self {
            Self::Linux6_12 => LINUX_6_12,
            Self::Linux6_1 => LINUX_6_1,
        }
    }

    /// What making it is called.
    pub(super) const fn step(self) -> &'static str {
        match self {
            Self::Linux6_12 => "guest kernel: Debian 13's linux-image-cloud-amd64",
            Self::Linux6_1 => "guest kernel: Debian 12's linux-image-cloud-amd64",
        }
    }
}

/// A kernel, where it lies on the machine.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    /// What QEMU boots.
    pub image: PathBuf,
    /// Modules in the order in which they are loaded.
    modules: Vec<PathBuf>,
}

impl Kernel {
    /// Unpacks the kernel's package, unless the cache has it.
    pub(super) fn make(cache: &Cache, release: Release) -> Result<(Self, Outcome)> {
        let Parts { package, modules } = release.parts();
        let (root, outcome) = package.in_cache(cache)?;
        Ok((Self::below(&root, modules)?, outcome))
    }

    fn below(root: &Path, modules: &[&str]) -> Result<Self> {
        let image = entries(&root.join("boot"))?
            .into_iter()
            .find(|path| name_of(path).starts_with("vmlinuz-"))
            .with_context(|| format!("no kernel lies in {}/boot", root.display()))?;
        let mut files = Vec::new();
        // What is only unpacked has a /lib of its own where the package was built that way, as Debian 12's is.
        for directory in ["usr/lib/modules", "lib/modules"].map(|below| root.join(below)) {
            if directory.is_dir() {
                collect(&directory, &mut files)?;
            }
        }
        let module = |name: &&str| {
            let is_it = |path: &&PathBuf| matches!(name_of(path).strip_prefix(*name), Some(".ko" | ".ko.xz"));
            let found = files.iter().find(is_it).cloned();
            found.with_context(|| format!("{} has no module {name}", root.display()))
        };
        Ok(Self { image, modules: modules.iter().map(module).collect::<Result<_>>()? })
    }

    /// Puts the modules into an archive, where their names are their order.
    pub(super) fn carry_modules(&self, archive: &mut Initramfs) -> Result<()> {
        for (number, module) in self.modules.iter().enumerate() {
            let (_, ending) = name_of(module).split_once('.').context("a module's name has no ending")?;
            let bytes = fs::read(module).with_context(|| format!("read {}", module.display()))?;
            archive.file(&format!("{MODULES}/{number:02}.{ending}"), &bytes);
        }
        Ok(())
    }
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// All files below a directory.
fn collect(dir: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for path in entries(dir)? {
        if path.is_dir() && !path.is_symlink() {
            collect(&path, into)?;
        } else {
            into.push(path);
        }
    }
    Ok(())
}
