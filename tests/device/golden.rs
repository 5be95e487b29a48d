//! What is written, byte for byte. Monitors read it, and a device never changes once it was made.

use std::fs;
use std::path::Path;

use nexuserofs::expose::device::{Carrier, Form, Layout};
use nexuserofs::image::extent::Data;
use nexuserofs::image::gpt::{Disk, Layer, Style};

use crate::chain::OnDisk;

/// The golden files.
fn golden(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/device/golden").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A descriptor with the temporary directory called `/ROOT`, and without the checksum over its name.
fn descriptor(disk: &OnDisk, layout: Layout) -> String {
    let device = disk.make(Form { layout, carrier: Carrier::Vmdk }).unwrap();
    let text = fs::read_to_string(device.path).unwrap();
    let line = |line: &str| if line.starts_with("CID=") { "CID=\n".into() } else { format!("{line}\n") };
    text.replace(disk.path().to_str().unwrap(), "/ROOT").lines().map(line).collect()
}

#[test]
fn descriptors_are_those_that_were_tried_on_monitors() {
    let disk = OnDisk::new(&[8192, (3 << 30) + 4096, (1 << 20) - 4096]);
    for (layout, name) in [
        (Layout::Merged, "merged.vmdk"),
        (Layout::Partitions(Style::Kata), "layers.vmdk"),
        (Layout::Partitions(Style::Nerdbox), "layers-nerdbox.vmdk"),
    ] {
        assert_eq!(descriptor(&disk, layout), golden(name), "{name}");
    }
    let manifest = fs::read_to_string(disk.home().join("layers.manifest")).unwrap();
    assert_eq!(manifest, "blob:layer.erofs\n".repeat(3));
}

#[test]
fn heads_of_disks_with_partitions_never_change() {
    let layers = [("v1-0123456789abcdef0123456789abcdef", 4096), ("w1-x", 5 << 30), ("35", 12288)];
    let layers = layers.map(|(identity, bytes)| Layer { identity: identity.into(), bytes });
    for (style, name) in [(Style::Kata, "kata.head"), (Style::Nerdbox, "nerdbox.head")] {
        let map = Disk::new(style, &layers).unwrap().extents().unwrap();
        let Data::Bytes(head) = map.extents()[0].data() else { panic!("a disk begins with its head") };
        assert_eq!(head.len(), 34 * 512, "{name}");
        assert_eq!(hexdump(head), golden(name), "{name}");
    }
}

/// Rows of 16 bytes that are not all zero.
fn hexdump(bytes: &[u8]) -> String {
    let rows = bytes.chunks(16).enumerate().filter(|(_, row)| row.iter().any(|byte| *byte != 0));
    let hex = |row: &[u8]| row.iter().map(|byte| format!(" {byte:02x}")).collect::<String>();
    rows.map(|(index, row)| format!("{:05x}{}\n", index * 16, hex(row))).collect()
}
