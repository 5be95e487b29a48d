//! Disks that are made of layers: GPT, and VMDK descriptors.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use serde::Serialize;
use uuid::Uuid;

use crate::image::vmdk::Descriptor;

/// Largest text that is taken for a descriptor, in bytes.
const TEXT_MAX: u64 = 1 << 20;

/// A GUID partition table.
#[derive(Debug, Serialize)]
pub(super) struct Gpt {
    pub(super) guid: Uuid,
    pub(super) partitions: Vec<Partition>,
}

#[derive(Debug, Serialize)]
pub(super) struct Partition {
    pub(super) number: u32,
    pub(super) name: String,
    pub(super) guid: Uuid,
    pub(super) first_byte: u64,
    pub(super) bytes: u64,
}

/// A VMDK descriptor.
#[derive(Debug, Serialize)]
pub(super) struct Vmdk {
    /// Size of the disk.
    pub(super) disk_bytes: u64,
    pub(super) extents: Vec<Extent>,
}

#[derive(Debug, Serialize)]
pub(super) struct Extent {
    pub(super) file: String,
    pub(super) bytes: u64,
}

/// The table of the disk at `path`; `None` if that has none.
pub(super) fn gpt(path: &Path) -> Option<Gpt> {
    let size = LogicalBlockSize::Lb512;
    // A disk of layers has one table, at its start, which is enough by default.
    let disk = GptConfig::new().writable(false).logical_block_size(size).open(path).ok()?;
    let partitions = disk.partitions().iter().map(|(number, partition)| {
        let first_byte = partition.first_lba * size.as_u64();
        let bytes = (partition.last_lba + 1).saturating_sub(partition.first_lba) * size.as_u64();
        let (name, guid) = (partition.name.clone(), Uuid::from_bytes(partition.part_guid.into_bytes()));
        Partition { number: *number, name, guid, first_byte, bytes }
    });
    Some(Gpt { guid: Uuid::from_bytes(disk.guid().into_bytes()), partitions: partitions.collect() })
}

/// The descriptor in a file; `None` if it is none that we would write.
pub(super) fn vmdk(file: &File) -> io::Result<Option<Vmdk>> {
    let mut text = Vec::new();
    if file.metadata()?.len() > TEXT_MAX {
        return Ok(None);
    }
    let source = file;
    source.take(TEXT_MAX).read_to_end(&mut text)?;
    let descriptor = String::from_utf8(text).ok().and_then(|text| Descriptor::parse(&text).ok());
    Ok(descriptor.map(|descriptor| {
        let extent = |extent: &crate::image::vmdk::Extent| Extent {
            file: extent.path.as_str().to_owned(),
            bytes: extent.sectors * 512,
        };
        let extents = descriptor.extents().iter().map(extent).collect();
        Vmdk { disk_bytes: descriptor.sectors() * 512, extents }
    }))
}
