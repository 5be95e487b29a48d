//! Arguments of QEMU.

use std::path::Path;

use crate::cli::tool::devices::disk::{Backing, Disk};

/// Arguments for a guest with these disks and so many MiB of memory.
pub(in crate::cli::tool::devices) fn arguments(disks: &[Disk], memory: u32) -> Vec<String> {
    let mut arguments = vec!["-m".to_owned(), format!("{memory}M")];
    if disks.iter().any(|disk| matches!(disk.backing, Backing::Socket(_))) {
        // Whoever serves such a disk reads and writes the guest's memory.
        arguments.extend(pair("-object", format!("memory-backend-memfd,id=memory,size={memory}M,share=on")));
        arguments.extend(pair("-machine", "memory-backend=memory".to_owned()));
    }
    arguments.extend(disks.iter().flat_map(disk));
    arguments
}

fn disk(disk: &Disk) -> [String; 4] {
    let Disk { serial, read_only, backing } = disk;
    let access = if *read_only { "readonly=on" } else { "discard=unmap" };
    let drive = |format: &str, path: &Path| {
        [
            pair("-drive", format!("if=none,id={serial},format={format},{access},file={}", value(path))),
            pair("-device", format!("virtio-blk-pci,drive={serial},serial={serial}")),
        ]
    };
    let pairs = match backing {
        Backing::Raw(path) => drive("raw", path),
        Backing::Vmdk(path) => drive("vmdk", path),
        // The disk tells its serial itself. QEMU before 9.2 has reconnect=1 in place of reconnect-ms.
        Backing::Socket(path) => [
            pair("-chardev", format!("socket,id={serial},reconnect-ms=1000,path={}", value(path))),
            pair("-device", format!("vhost-user-blk-pci,chardev={serial}")),
        ],
    };
    let [[first, second], [third, fourth]] = pairs;
    [first, second, third, fourth]
}

fn pair(option: &str, value: String) -> [String; 2] {
    [option.to_owned(), value]
}

/// A path in a list of options, where a comma ends one unless it is doubled.
fn value(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}
