//! An image of one layer as Kata is given it under our profile with dm-verity: over a layer that holds nothing, which no
//! manifest lists.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nexuserofs_guest::canonical::Canonical as _;
use nexuserofs_guest::devices::{BlockDevice, Query, Sysfs};
use nexuserofs_guest::dm::{DeviceMapper, Table};
use nexuserofs_guest::manifest::{Layer, LayoutVersion, SignedManifest};
use nexuserofs_integration::guest::disk::Disk;
use nexuserofs_integration::guest::init::PAYLOAD;
use nexuserofs_integration::stage::Place;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::case::{Case, Input};
use crate::host::Image;
use crate::layers::damaged;
use crate::{disks, kata, named};

const REFUSED: i32 = 3;
const VERITY: i32 = 5;

/// What Kata makes of the plan, in the payload.
const GIVEN: &str = "kata.json";

/// Disks of two partitions, the newest layer first as in all of Kata's: the layer over the one that holds nothing, as the plan
/// has them; under that one; over it with a bit changed; over another layer, with a tree of its own; and twice what holds
/// nothing.
const SINGLE: &str = "single";
const ABOVE: &str = "above";
const CHANGED: &str = "changed";
const OTHER: &str = "other";
const NOTHING: &str = "nothing";

/// In the image that holds nothing, where its superblock begins, in bytes.
const SUPERBLOCK: u64 = 1024;

/// Longer than the image's layer, in bytes.
const PADDED: u64 = 64 << 10;

/// What the host gives of the image, and who lists what.
#[derive(Debug, Serialize, Deserialize)]
struct Given {
    /// Kata's storages, on a disk of any address.
    storages: Vec<Value>,
    /// The manifest, unsigned.
    listed: String,
}

/// Makes the plan of a profile with dm-verity, and disks of its files. `other` is a layer of another image.
pub(crate) fn disks(directory: &Path, payload: &Path, other: &Path) -> Result<Vec<Disk>> {
    let image = Image::of(1);
    let plan = image.plan();
    let listed = SignedManifest::from(image.manifest()).to_canonical();
    fs::write(payload.join(GIVEN), serde_json::to_vec(&Given { storages: kata::storages(&plan), listed })?)?;
    let files: Vec<PathBuf> = plan
        .iter()
        .filter(|mount| mount.fstype == "erofs")
        .map(|mount| PathBuf::from(&mount.source))
        .collect();
    let [layer, nothing] = files.as_slice() else { anyhow::bail!("the plan is {plan:?}") };
    let changed = damaged(directory, nothing, "changed-nothing", SUPERBLOCK)?.file;
    // In place of the layer it would be too short, so a host makes it longer.
    let padded = copied(directory, nothing, "padded")?;
    File::options().write(true).open(&padded)?.set_len(PADDED)?;
    // Tests look for the partitions of the other image by the names of its directories.
    let renamed = copied(directory, other, "another")?;
    let oldest_first: [(&str, [&Path; 2]); 5] = [
        (SINGLE, [nothing, layer]),
        (ABOVE, [layer, &padded]),
        (CHANGED, [&changed, layer]),
        (OTHER, [&renamed, layer]),
        (NOTHING, [nothing, nothing]),
    ];
    let made = |(name, files): (&str, [&Path; 2])| {
        let file = disks::partitioned(directory, name, &files.map(Path::to_owned))?;
        Ok(Disk::raw(name, file).scsi())
    };
    oldest_first.into_iter().map(made).collect()
}

/// A copy of a layer, in a directory of its own.
fn copied(directory: &Path, layer: &Path, name: &str) -> Result<PathBuf> {
    let home = directory.join(name);
    let path = home.join("layer.erofs");
    fs::create_dir(home).and_then(|()| fs::copy(layer, &path))?;
    Ok(path)
}

fn given() -> Result<Given> {
    Ok(serde_json::from_slice(&fs::read(Path::new(PAYLOAD).join(GIVEN))?)?)
}

/// The layer that holds nothing.
fn empty() -> Result<Layer> {
    Ok(LayoutVersion::V1.empty_layer().context("the layout has no empty layer")?.clone())
}

fn device(name: &str) -> Result<BlockDevice> {
    Ok(Sysfs::default().block_devices()?.find(&Query::ScsiSerial(name.parse()?))?.clone())
}

/// Kata's storages as the profile gives them, the layer first, on this disk.
fn storages(disk: &str) -> Result<Vec<Value>> {
    let address = device(disk)?.scsi_address.context("the disk is not on SCSI")?;
    let mut storages = given()?.storages;
    storages.iter_mut().for_each(|storage| storage["source"] = address.clone().into());
    Ok(storages)
}

/// The image under a policy for exactly it, on these storages.
fn case(place: &Place, storages: Vec<Value>) -> Result<Case> {
    let mut case = Case::good(place)?;
    case.descriptor.signed = SignedManifest::from_canonical(given()?.listed.as_bytes())?;
    Ok(case.allowed().from(Input::Kata(storages.into())))
}

/// The same where the manifest lists these layers, oldest first.
fn listing(place: &Place, storages: Vec<Value>, layers: &[Layer]) -> Result<Case> {
    Ok(case(place, storages)?.listing(|listed| *listed = layers.to_vec())?.allowed())
}

fn options(storage: &mut Value) -> Result<&mut Vec<Value>> {
    storage["options"].as_array_mut().context("a storage has options")
}

/// Changes the option that begins so.
fn set(storage: &mut Value, start: &str, value: &str) -> Result<()> {
    let has_start = |option: &&mut Value| option.as_str().is_some_and(|option| option.starts_with(start));
    let option = options(storage)?.iter_mut().find(has_start);
    *option.with_context(|| format!("there is no {start}"))? = format!("{start}{value}").into();
    Ok(())
}

/// The two change places, with all that is said of them.
fn swap(storages: &mut [Value]) -> Result<()> {
    let [first, second] = storages else { anyhow::bail!("there are {} storages", storages.len()) };
    set(first, "X-kata.partition-number=", "2")?;
    set(second, "X-kata.partition-number=", "1")
}

/// Says nothing of dm-verity, which Kata's agent takes for a wish to have none.
fn claim_nothing(storages: &mut [Value]) -> Result<()> {
    for storage in storages {
        options(storage)?.retain(|option| !option.as_str().unwrap_or_default().contains("dmverity"));
    }
    Ok(())
}

fn whole(root: &Path) -> Result<()> {
    ensure!(fs::read_to_string(root.join("file-1"))? == "1");
    Ok(fs::write(root.join("written"), "")?)
}

pub(crate) fn a_single_layer_is_put_together_as_kata_is_given_it(place: &Place) -> Result<()> {
    case(place, storages(SINGLE)?)?.works(|root| {
        whole(root)?;
        let disk = Query::ScsiSerial(SINGLE.parse()?);
        let lowest = Query::Partition { disk: Box::new(disk), number: 2 };
        let over = Sysfs::default().block_devices()?.find(&lowest)?.number;
        let table = DeviceMapper::open()?.table(&"nexuserofs-root-0".parse()?)?;
        ensure!(table == Some(Table::of(&empty()?.fields().verity, over)), "it is not checked: {table:?}");
        ensure!(fs::read_dir("/run/nexuserofs/root/layers/0")?.next().is_none(), "it holds something");
        Ok(())
    })?;
    let mut unsaid = storages(SINGLE)?;
    claim_nothing(&mut unsaid)?;
    case(place, unsaid)?.works(whole)
}

/// On top of the layer: the host says so, says that it is below, or says nothing.
pub(crate) fn an_empty_layer_on_top_is_refused(place: &Place) -> Result<()> {
    let mut said = storages(ABOVE)?;
    swap(&mut said)?;
    case(place, said)?.fails(REFUSED, "parameters_differ")?;
    let mut denied = storages(ABOVE)?;
    case(place, denied.clone())?.fails(VERITY, "layer_corrupted")?;
    claim_nothing(&mut denied)?;
    case(place, denied)?.fails(VERITY, "layer_corrupted")
}

pub(crate) fn more_empty_layers_are_refused(place: &Place) -> Result<()> {
    let mut more = storages(SINGLE)?;
    let mut lowest = more.last().context("there are storages")?.clone();
    set(&mut lowest, "X-kata.partition-number=", "3")?;
    more.push(lowest.clone());
    case(place, more)?.fails(REFUSED, "layer_count")?;
    // Under an image of several layers there is none.
    let good = Case::good(place)?;
    let mut under = named::storages(&good, "gpt")?;
    set(&mut lowest, "X-kata.partition-number=", "4")?;
    under.push(lowest);
    good.from(Input::Kata(under.into())).fails(REFUSED, "layer_count")
}

/// The root hash is known to everybody, so the rest of the table has to be right too.
pub(crate) fn another_table_of_the_empty_layer_is_refused(place: &Place) -> Result<()> {
    let zeros = "00".repeat(32);
    for (option, value) in [
        ("X-kata.dmverity.salt=", "01".repeat(32)),
        ("X-kata.dmverity.hashoffset=", "4096".to_owned()),
        ("X-kata.dmverity.no-superblock=", "true".to_owned()),
        ("X-kata.dmverity.roothash=", zeros),
    ] {
        let mut changed = storages(SINGLE)?;
        set(changed.last_mut().context("there are storages")?, option, &value)?;
        case(place, changed)?.fails(REFUSED, "parameters_differ")?;
    }
    Ok(())
}

/// With a bit changed, and with a tree of its own that is right.
pub(crate) fn another_layer_in_the_empty_ones_place_is_found(place: &Place) -> Result<()> {
    for disk in [CHANGED, OTHER] {
        case(place, storages(disk)?)?.fails(VERITY, "layer_corrupted")?;
    }
    Ok(())
}

/// Images have layers of nothing too. These are listed, and have their places.
pub(crate) fn an_empty_layer_that_is_listed_has_its_place(place: &Place) -> Result<()> {
    let layer = case(place, Vec::new())?.descriptor.signed.manifest.layers().to_vec().remove(0);
    let nothing = empty()?;
    listing(place, storages(SINGLE)?, &[nothing.clone(), layer.clone()])?.works(whole)?;
    let newest = listing(place, storages(SINGLE)?, &[layer.clone(), nothing.clone()])?;
    newest.fails(REFUSED, "parameters_differ")?;
    listing(place, storages(SINGLE)?, &[nothing.clone(), layer, nothing.clone()])?
        .fails(REFUSED, "layer_count")?;
    let mut alone = storages(NOTHING)?;
    claim_nothing(&mut alone)?;
    listing(place, alone, &[nothing])?.works(|root| {
        ensure!(fs::read_dir(root)?.next().is_none(), "it holds something");
        Ok(())
    })
}
