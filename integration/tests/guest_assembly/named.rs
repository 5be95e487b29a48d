//! Devices by everything that names them, and what Kata's agent is given.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use anyhow::{Context, Result, ensure};
use nexuserofs_guest::canonical::Canonical as _;
use nexuserofs_guest::devices::{BlockDevice, Query, Sysfs};
use nexuserofs_guest::manifest::SignedManifest;
use nexuserofs_integration::stage::Place;
use serde_json::{Value, json};

use crate::case::{Case, Input, documents, serial};
use crate::disks::{BEHIND, BEHIND_TEXT, LARGE, LARGE_BYTE, LARGE_BYTES};
use crate::whole;

/// The device that the kernel has of a disk.
pub(crate) fn device(name: &str) -> Result<BlockDevice> {
    Ok(Sysfs::default().block_devices()?.find(&serial(name)?)?.clone())
}

pub(crate) fn partitions_are_found_by_name(place: &Place) -> Result<()> {
    let mut case = Case::good(place)?;
    for index in 0..3 {
        let label = format!("erofs-{}-slayer-{index}", 2 - index);
        case = case.at(index, Query::PartitionLabel(label.parse()?));
    }
    case.works(whole)
}

pub(crate) fn a_disk_is_found_by_its_scsi_page(place: &Place) -> Result<()> {
    Case::good(place)?.at(1, Query::ScsiSerial("scsi-l1".parse()?)).works(whole)
}

pub(crate) fn a_disk_is_found_by_its_path(place: &Place) -> Result<()> {
    let path = device("l1")?.path();
    Case::good(place)?.at(1, Query::Path(path.parse()?)).works(whole)
}

/// Kata's storages of the image on this disk, as its runtime writes them: the newest layer first.
pub(crate) fn storages(case: &Case, disk: &str) -> Result<Vec<Value>> {
    let pci = device(disk)?.pci.context("the disk is not on PCI")?;
    let layers = case.descriptor.signed.manifest.layers();
    let storage = |(number, layer): (usize, &nexuserofs_guest::manifest::Layer)| {
        let verity = &layer.fields().verity;
        json!({
            "driver": "blk",
            "driver_options": [],
            "source": pci,
            "fstype": "erofs",
            "mount_point": "/run/kata-containers/app/rootfs",
            "options": [
                "X-kata.overlay-lower",
                "X-kata.multi-layer=true",
                "X-kata.gpt-partitioned=true",
                format!("X-kata.partition-number={number}"),
                "X-kata.dmverity-enabled=true",
                format!("X-kata.dmverity.roothash={}", verity.fields().root_digest.hex()),
                format!("X-kata.dmverity.hashoffset={}", verity.data_bytes()),
                "X-kata.dmverity.no-superblock=false",
                format!("X-kata.dmverity.salt={}", verity.fields().salt.hex()),
            ],
        })
    };
    Ok((1..).zip(layers.iter().rev()).map(storage).collect())
}

pub(crate) fn what_kata_hands_on_is_put_together(place: &Place) -> Result<()> {
    let case = Case::good(place)?;
    let storages = storages(&case, "gpt")?;
    case.from(Input::Kata(storages.into())).works(whole)
}

pub(crate) fn a_layer_beyond_two_gibibytes_is_put_together(place: &Place) -> Result<()> {
    let mut case = Case::good(place)?.on(0, "large")?;
    case.descriptor.signed = SignedManifest::from_canonical(documents()?.large.as_bytes())?;
    case.sources().truncate(1);
    let image = case.descriptor.signed.manifest.layers()[0].fields().verity.data_bytes();
    ensure!(image > LARGE_BYTES, "the image has {image} bytes only");
    case.allowed().works(|root| {
        ensure!(fs::read_to_string(root.join(BEHIND))? == BEHIND_TEXT);
        let large = File::open(root.join(LARGE))?;
        ensure!(large.metadata()?.len() == LARGE_BYTES);
        for at in [0, 1 << 31, LARGE_BYTES - 4096] {
            let mut block = [0; 4096];
            large.read_exact_at(&mut block, at)?;
            ensure!(block == [LARGE_BYTE; 4096], "at {at}");
        }
        Ok(())
    })
}
