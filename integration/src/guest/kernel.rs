//! The guest's kernel: Debian 13's for clouds, with its modules.
//!
//! It is Linux 6.12, the first that mounts EROFS from files, with dm-verity, fs-verity and project quotas.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::host::Recipe;
use crate::progress::Outcome;

const PACKAGE: Recipe = Recipe {
    name: "guest-kernel",
    suite: "trixie",
    variant: "extract",
    packages: &["linux-image-cloud-amd64"],
};

/// What a guest loads before anything else, each after what it needs. ext4, PCI and fs-verity are built in.
const MODULES: &[&str] = &[
    "virtio_blk",
    "loop",
    "dm-mod",
    "dm-bufio",
    "reed_solomon",
    "dm-verity",
    "libcrc32c",
    "netfs",
    "erofs",
    "overlay",
    "quota_tree",
    "quota_v2",
    "xfs",
];

/// A kernel, where it lies on the machine.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    /// What QEMU boots.
    pub image: PathBuf,
    /// Modules in the order in which they are loaded.
    pub modules: Vec<PathBuf>,
}

impl Kernel {
    /// Unpacks the kernel's package, unless the cache has it.
    pub(super) fn make(cache: &Cache) -> Result<(Self, Outcome)> {
        let (root, outcome) = PACKAGE.in_cache(cache)?;
        Ok((Self::below(&root)?, outcome))
    }

    fn below(root: &Path) -> Result<Self> {
        let image = entries(&root.join("boot"))?
            .into_iter()
            .find(|path| name_of(path).starts_with("vmlinuz-"))
            .with_context(|| format!("no kernel lies in {}/boot", root.display()))?;
        let mut files = Vec::new();
        collect(&root.join("usr/lib/modules"), &mut files)?;
        let module = |name: &&str| {
            let file = format!("{name}.ko.xz");
            let found = files.iter().find(|path| name_of(path) == file).cloned();
            found.with_context(|| format!("{} has no module {name}", root.display()))
        };
        Ok(Self { image, modules: MODULES.iter().map(module).collect::<Result<_>>()? })
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
