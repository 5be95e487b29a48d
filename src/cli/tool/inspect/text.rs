//! What is in a file, for people.

use super::erofs::Image;
use super::verity::Verity;
use super::{Content, Inspection};
use crate::cli::tool::inspect::disk::{Gpt, Vmdk};
use crate::cli::tool::inspect::usage::Usage;

/// Lines of text, with an empty one between two parts.
pub(super) fn of(inspection: &Inspection) -> String {
    let Inspection { name, file, bytes, content } = inspection;
    let mut lines = Lines::default();
    lines.title(&format!("{name}: {}", kind(content)));
    if *name != file.to_string_lossy() {
        lines.field("file", file.display());
    }
    lines.field("size", amount(*bytes));
    match content {
        Content::Erofs(image) => add_image(image, &mut lines),
        Content::Gpt(gpt) => add_gpt(gpt, &mut lines),
        Content::Vmdk(vmdk) => add_vmdk(vmdk, &mut lines),
        Content::Unknown { reason } => lines.field("reason", reason),
    }
    lines.0.join("\n")
}

fn kind(content: &Content) -> &'static str {
    match content {
        Content::Erofs(_) => "EROFS image",
        Content::Gpt(_) => "disk with a GUID partition table",
        Content::Vmdk(_) => "VMDK descriptor",
        Content::Unknown { .. } => "neither an EROFS image nor a disk of such",
    }
}

fn add_image(image: &Image, lines: &mut Lines) {
    let superblock = &image.superblock;
    lines.field("image", format!("{} blocks of {} bytes", superblock.blocks, superblock.block_size));
    lines.field("UUID", superblock.uuid);
    if !superblock.volume_name.is_empty() {
        lines.field("volume name", &superblock.volume_name);
    }
    lines.field("checksum", superblock.checksum);
    lines.field("features", superblock.compatible.join(" "));
    if !superblock.incompatible.is_empty() {
        lines.field("required features", superblock.incompatible.join(" "));
    }
    lines.field("inodes", superblock.inodes);
    lines.field("inodes from block", superblock.meta_block);
    if superblock.xattr_block != 0 {
        lines.field("shared xattrs from block", superblock.xattr_block);
    }
    for (device, number) in image.devices.iter().zip(1..) {
        let range = format!("{} blocks, mapped from {}", device.blocks, device.mapped_block);
        lines.field(&format!("device {number}"), format!("{} {range}", device.tag));
    }
    image.usage.iter().for_each(|usage| add_usage(usage, lines));
    image.unread.iter().for_each(|reason| lines.field("not read", reason));
    image.verity.iter().for_each(|verity| add_verity(verity, lines));
    for file in image.files.iter().flatten() {
        lines.0.push(file.text());
    }
}

fn add_usage(usage: &Usage, lines: &mut Lines) {
    lines.field("data", amount(usage.data_bytes));
    let rest = if usage.compressed_files > 0 { "metadata, compressed data" } else { "metadata" };
    lines.field(rest, amount(usage.metadata_bytes));
    for (name, bytes) in [
        ("holes", usage.hole_bytes),
        ("behind inodes", usage.inline_bytes),
        ("compressed files", usage.compressed_file_bytes),
    ] {
        if bytes > 0 {
            lines.field(name, amount(bytes));
        }
    }
    for (name, number) in [
        ("directories", usage.directories),
        ("files", usage.regular_files),
        ("of these compressed", usage.compressed_files),
        ("symbolic links", usage.symbolic_links),
        ("devices", usage.devices),
        ("fifos", usage.fifos),
        ("sockets", usage.sockets),
        ("hard links", usage.hard_links),
        ("whiteouts", usage.whiteouts),
        ("opaque directories", usage.opaque_directories),
        ("xattrs", usage.xattrs),
        ("of these shared", usage.shared_xattrs),
    ] {
        if number > 0 {
            lines.field(name, number);
        }
    }
}

fn add_verity(verity: &Verity, lines: &mut Lines) {
    match &verity.superblock {
        Some(tree) => {
            let blocks = format!("{} blocks of {} bytes", tree.data_blocks, tree.data_block_size);
            let place = format!("{} over {blocks}, from byte {} on", tree.hash_algorithm, tree.hashoffset);
            lines.field("dm-verity tree", place);
            lines.field("its UUID", tree.uuid);
            lines.field("its salt", &tree.salt);
        }
        None => lines.field("dm-verity tree", "none, though a file beside the image tells of one"),
    }
    match &verity.sidecar {
        Some(sidecar) => lines.field("root hash", sidecar["roothash"].as_str().unwrap_or("?")),
        None => lines.field("root hash", "not told by a file beside the image"),
    }
}

fn add_gpt(gpt: &Gpt, lines: &mut Lines) {
    lines.field("GUID", gpt.guid);
    for partition in &gpt.partitions {
        let place = format!("{} bytes from {} on", partition.bytes, partition.first_byte);
        lines.field(&format!("partition {}", partition.number), format!("{} {place}", partition.name));
    }
}

fn add_vmdk(vmdk: &Vmdk, lines: &mut Lines) {
    lines.field("disk", amount(vmdk.disk_bytes));
    for extent in &vmdk.extents {
        lines.field("extent", format!("{} {}", amount(extent.bytes), extent.file));
    }
}

/// A number of bytes, also in a unit that can be pictured.
fn amount(bytes: u64) -> String {
    match bytes {
        0..=9_999 => format!("{bytes} bytes"),
        _ => format!("{bytes} bytes ({})", indicatif::BinaryBytes(bytes)),
    }
}

#[derive(Default)]
struct Lines(Vec<String>);

impl Lines {
    fn title(&mut self, text: &str) {
        self.0.push(text.to_owned());
    }

    fn field(&mut self, name: &str, value: impl std::fmt::Display) {
        self.0.push(format!("  {name:<26}{value}"));
    }
}
