//! Disks with partitions, read by the crate `gpt`, which Kata uses.

use std::fs::File;
use std::os::unix::fs::FileExt;

use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use gpt::partition_types::LINUX_FS;
use nexuserofs::expose::device::{Carrier, Form, Layout};
use nexuserofs::image::gpt::Style;

use crate::chain::OnDisk;

#[test]
fn every_partition_is_found_and_holds_its_layer() {
    for count in [1, 3, 40, 128] {
        for style in [Style::Kata, Style::Nerdbox] {
            let sizes: Vec<u64> = (0..count).map(|index| 4096 * (1 + index * index % 300)).collect();
            found(&OnDisk::new(&sizes), style);
        }
    }
}

fn found(disk: &OnDisk, style: Style) {
    let form = Form { layout: Layout::Partitions(style), carrier: Carrier::Flat };
    let device = disk.make(form).unwrap();
    let file = File::open(&device.path).unwrap();
    assert_eq!(file.metadata().unwrap().len(), device.bytes);
    let read = GptConfig::new().logical_block_size(LogicalBlockSize::Lb512).open_from_device(&file).unwrap();
    let header = read.primary_header().unwrap();
    let last = device.bytes / 512 - 1;
    assert_eq!(header.last_usable, last);
    assert_eq!(header.backup_lba, if style == Style::Kata { last + 1 } else { 0 });
    assert!(read.backup_header().is_err(), "there is no second table");
    assert_eq!(read.partitions().len(), disk.layers.len());
    let mut guids: Vec<_> = read.partitions().values().map(|partition| partition.part_guid).collect();
    guids.push(*read.guid());
    guids.sort();
    guids.dedup();
    assert_eq!(guids.len(), disk.layers.len() + 1, "GUIDs are unique");
    for (index, (layer, partition)) in disk.layers.iter().rev().zip(read.partitions().values()).enumerate() {
        let key = layer.parent().unwrap().file_name().unwrap().to_str().unwrap();
        let name = match style {
            Style::Kata => format!("erofs-{index}-s{key}").chars().take(36).collect(),
            Style::Nerdbox => format!("erofs-layer-{index}"),
        };
        assert_eq!(partition.name, name);
        assert_eq!(partition.part_type_guid, LINUX_FS);
        assert_eq!(partition.first_lba % 2048, 0);
        let mut bytes = vec![0; partition.bytes_len(LogicalBlockSize::Lb512).unwrap() as usize];
        file.read_exact_at(&mut bytes, partition.first_lba * 512).unwrap();
        assert!(bytes == std::fs::read(layer).unwrap(), "partition {index} of {}", disk.layers.len());
    }
}
