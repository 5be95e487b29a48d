//! Arguments of Cloud Hypervisor.

use std::path::Path;

use crate::cli::tool::devices::disk::{Backing, Disk};

/// Arguments for a guest with these disks and so many MiB of memory.
pub(super) fn arguments(disks: &[Disk], memory: u32) -> Vec<String> {
    let is_shared = disks.iter().any(|disk| matches!(disk.backing, Backing::Socket(_)));
    let shared = if is_shared { ",shared=on" } else { "" };
    let mut arguments = vec!["--memory".to_owned(), format!("size={memory}M{shared}"), "--disk".to_owned()];
    arguments.extend(disks.iter().map(disk));
    arguments
}

fn disk(disk: &Disk) -> String {
    let Disk { serial, read_only, backing } = disk;
    let access = if *read_only { ",readonly=on" } else { "" };
    match backing {
        Backing::Raw(path) => format!("path={}{access},serial={serial},image_type=raw", value(path)),
        Backing::Vmdk(path) => format!("path={}{access},serial={serial}", value(path)),
        Backing::Socket(path) => format!("vhost_user=on,socket={}", value(path)),
    }
}

/// A path in a list of options: in quotes, which Cloud Hypervisor takes off, where it has a comma.
fn value(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.contains(',') { format!("\"{text}\"") } else { text.into_owned() }
}
