//! Disks that are not what the manifest says.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Result, ensure};
use nexuserofs_guest::descriptor::UpperSource;
use nexuserofs_guest::devices::Sysfs;
use nexuserofs_guest::dm::DeviceMapper;
use nexuserofs_guest::verity::{Fields, Parameters};
use nexuserofs_integration::stage::Place;

use crate::case::{Case, serial};

const VERITY: i32 = 5;
const REFUSED: i32 = 3;

pub(crate) fn input_output(read: io::Result<Vec<u8>>) -> Result<()> {
    let error = read.err().map(|error| error.raw_os_error());
    ensure!(error == Some(Some(5)), "a wrong block was read: {error:?}");
    Ok(())
}

pub(crate) fn a_changed_block_is_an_error_when_it_is_read(place: &Place) -> Result<()> {
    Case::good(place)?.on(1, "data")?.works(|root| {
        ensure!(fs::read(root.join("own-0"))? == crate::layers::own(0));
        input_output(fs::read(root.join("own-1")))
    })
}

/// Kata's agent mounts an image of one layer without dm-verity.
pub(crate) fn a_changed_block_of_a_single_layer_is_an_error(place: &Place) -> Result<()> {
    let mut case = Case::good(place)?.listing(|layers| *layers = vec![layers[1].clone()])?.on(0, "data")?;
    case.sources().truncate(1);
    case.descriptor.assembly.upper = UpperSource::None;
    case.allowed().works(|root| input_output(fs::read(root.join("own-1"))))
}

pub(crate) fn a_changed_block_is_found_before_anything_is_mounted(place: &Place) -> Result<()> {
    let case = Case { flags: vec!["--read-everything"], ..Case::good(place)?.on(1, "data")? };
    case.fails(VERITY, "layer_corrupted")
}

pub(crate) fn a_changed_tree_is_found(place: &Place) -> Result<()> {
    let case = Case { flags: vec!["--read-everything"], ..Case::good(place)?.on(1, "tree")? };
    case.fails(VERITY, "layer_corrupted")
}

pub(crate) fn the_superblock_of_the_host_means_nothing(place: &Place) -> Result<()> {
    let case = Case { flags: vec!["--read-everything"], ..Case::good(place)?.on(1, "superblock")? };
    case.works(crate::whole)
}

pub(crate) fn swapped_disks_are_found(place: &Place) -> Result<()> {
    Case::good(place)?.on(0, "l1")?.on(1, "l0")?.fails(VERITY, "layer_corrupted")
}

/// The kernel takes the right root hash with fewer blocks than the tree is of, so the number of blocks has to be
/// pinned; and it is.
pub(crate) fn a_tree_that_is_data_is_refused_by_its_length(place: &Place) -> Result<()> {
    let case = Case::good(place)?;
    let right = case.descriptor.signed.manifest.layers()[1].fields().verity.clone();
    let fields = right.fields().clone();
    let fewer = std::num::NonZeroU64::new(fields.data_blocks.get() - 1).expect("blocks");
    let fewer = Parameters::new(Fields { data_blocks: fewer, ..fields })?;

    let devices = Sysfs::default().block_devices()?;
    let over = devices.find(&serial("l1")?)?.number;
    let (mapper, name) = (DeviceMapper::open()?, "nexuserofs-shorter".parse()?);
    let device = mapper.create_verity(&name, &fewer, over)?;
    let read = read_to_end(&device.path());
    mapper.remove(&name)?;
    ensure!(read? == fewer.data_bytes(), "the attack that this is about does not exist");

    let mut case = case;
    case.sources()[1].claim = Some(fewer);
    case.fails(REFUSED, "parameters_differ")
}

fn read_to_end(device: &Path) -> io::Result<u64> {
    io::copy(&mut fs::File::open(device)?, &mut io::sink())
}
