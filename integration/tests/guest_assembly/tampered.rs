//! What else a host might try: with the description, with partition tables, with Kata's options, and over time.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, ensure};
use nexuserofs_guest::canonical::Canonical as _;
use nexuserofs_guest::descriptor::{LayerSource, UpperSource, to_block};
use nexuserofs_guest::devices::Query;
use nexuserofs_guest::manifest::SignedManifest;
use nexuserofs_guest::policy::{Policy, Rule, UpperKind};
use nexuserofs_integration::command::Run;
use nexuserofs_integration::stage::Place;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

use crate::case::{Case, Input, documents, key_rule};
use crate::damage::input_output;
use crate::forged_table::{BEYOND, OLDEST, OVERLAPPING, TWICE, WHOLE};
use crate::named::{device, storages};
use crate::whole;

const REFUSED: i32 = 3;
const DEVICE: i32 = 4;
const VERITY: i32 = 5;

/// Whoever opens the file `path` first reads the first text, and has it open when the second takes its place.
fn two_faced(path: &Path, [first, then]: [String; 2]) -> Result<JoinHandle<io::Result<()>>> {
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
    let (path, other) = (path.to_owned(), path.with_extension("other"));
    fs::write(&other, then)?;
    Ok(thread::spawn(move || {
        let mut reader = File::options().write(true).open(&path)?;
        fs::rename(other, path)?;
        reader.write_all(first.as_bytes())
    }))
}

/// What is checked and what is used are one reading.
pub(crate) fn a_description_that_changes_is_read_once(place: &Place) -> Result<()> {
    let case = Case::good(place)?;
    let good = case.descriptor.to_json()?;
    let other = good.replace("\"serial\":\"l1\"", "\"serial\":\"twin\"");
    ensure!(other != good);
    let path = case.directory.join("two-faced");
    let giver = two_faced(&path, [good, other.clone()])?;
    let source = || path.to_str().map(str::to_owned).context("a path in the guest is a text");
    case.from(Input::Source(source()?)).works(whole)?;
    giver.join().expect("the writer does not panic")?;
    // A second reading would have found this.
    Case::good(place)?.from(Input::Source(source()?)).fails(DEVICE, "device_ambiguous")
}

/// A loop device on a file that we can change while it is in use.
struct Loop {
    device: String,
    file: File,
}

impl Loop {
    fn over(place: &Place, content: &[u8]) -> Result<Self> {
        let path = place.scratch.join("loop");
        fs::write(&path, content)?;
        let device = Run::new("losetup").args(["--find", "--show"]).arg(&path).output()?;
        let file = File::options().read(true).write(true).open(path)?;
        Ok(Self { device: device.trim().to_owned(), file })
    }

    fn query(&self) -> Result<Query> {
        Ok(Query::Path(self.device.parse()?))
    }

    /// Changes a bit, and has everybody forget what was read before.
    fn change(&self, at: u64) -> Result<()> {
        let mut byte = [0];
        self.file.read_exact_at(&mut byte, at)?;
        self.file.write_all_at(&[byte[0] ^ 1], at)?;
        self.file.sync_all()?;
        Ok(fs::write("/proc/sys/vm/drop_caches", "3")?)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // A device that stays is in nobody's way: the guest ends soon.
        let _ = Run::new("losetup").args(["--detach", &self.device]).run();
    }
}

/// Blocks are checked each time they are read, not the first time only.
pub(crate) fn a_device_that_changes_later_is_an_error(place: &Place) -> Result<()> {
    let disk = Loop::over(place, &fs::read(device("l1")?.path())?)?;
    Case::good(place)?.at(1, disk.query()?).works(|root| {
        whole(root)?;
        // In the middle of the layer's own file.
        disk.change(200_000)?;
        input_output(fs::read(root.join("own-1")))?;
        disk.change(200_000)?;
        whole(root)
    })
}

pub(crate) fn partitions_of_one_name_are_refused(place: &Place) -> Result<()> {
    Case::good(place)?.at(2, Query::PartitionLabel(TWICE.parse()?)).fails(DEVICE, "device_ambiguous")
}

/// The kernel does not mind that two partitions have the same sectors.
pub(crate) fn overlapping_partitions_are_found(place: &Place) -> Result<()> {
    let label = |name: &str| Ok::<_, anyhow::Error>(Query::PartitionLabel(name.parse()?));
    let case = Case::good(place)?.at(0, label(OLDEST)?).at(2, label(WHOLE)?);
    case.works(whole)?;
    let case = Case::good(place)?.at(0, label(OLDEST)?).at(2, label(WHOLE)?);
    case.at(1, label(OVERLAPPING)?).fails(VERITY, "layer_corrupted")
}

pub(crate) fn a_partition_behind_the_end_of_its_disk_is_refused(place: &Place) -> Result<()> {
    Case::good(place)?.at(2, Query::PartitionLabel(BEYOND.parse()?)).fails(DEVICE, "device_missing")
}

pub(crate) fn another_file_system_in_a_layers_place_is_found(place: &Place) -> Result<()> {
    Case::good(place)?.on(1, "upper")?.fails(VERITY, "layer_corrupted")
}

pub(crate) fn a_tree_that_was_cut_off_is_found(place: &Place) -> Result<()> {
    Case::good(place)?.on(1, "zeros")?.fails(VERITY, "layer_corrupted")
}

pub(crate) fn an_upper_that_is_a_layers_disk_is_refused(place: &Place) -> Result<()> {
    let mut case = Case::good(place)?;
    case.descriptor.assembly.upper = UpperSource::Device(crate::case::serial("l0")?);
    case.policy.as_mut().context("a good case has a policy")?.uppers.insert(UpperKind::Device);
    case.fails(REFUSED, "device_twice")
}

pub(crate) fn doubled_keys_are_refused(place: &Place) -> Result<()> {
    let text = Case::good(place)?.descriptor.to_json()?;
    for (from, to) in [
        ("\"upper\":", "\"upper\":\"none\",\"upper\":"),
        ("\"layers\":[", "\"layers\":[],\"layers\":["),
        ("\"manifest\":{", "\"manifest\":{},\"manifest\":{"),
        ("{\"serial\":\"l1\"}", "{\"serial\":\"l0\",\"serial\":\"l1\"}"),
    ] {
        let doubled = text.replacen(from, to, 1);
        ensure!(doubled != text, "{from} is not there");
        Case::good(place)?.fails_with(&doubled, REFUSED, "descriptor_damaged")?;
    }
    Ok(())
}

pub(crate) fn sizes_that_nothing_has_are_refused(place: &Place) -> Result<()> {
    let text = Case::good(place)?.descriptor.to_json()?;
    for size in ["18446744073709551615", "18446744073709551616", "9007199254740992", "-1", "1e3", "0.5"] {
        let blocks = text.replacen("\"data_blocks\":", &format!("\"data_blocks\":{size},\"x\":"), 1);
        let bytes = text.replacen("\"size\":", &format!("\"size\":{size},\"x\":"), 1);
        for changed in [blocks, bytes] {
            ensure!(changed != text, "there is no such number");
            Case::good(place)?.fails_with(&changed, REFUSED, "descriptor_damaged")?;
        }
    }
    Ok(())
}

/// A signature of the text that people compare is not one of the statement.
pub(crate) fn a_signature_of_other_bytes_is_refused(place: &Place) -> Result<()> {
    let mut case = Case { policy: Some(Policy::new(Rule::Key(key_rule()?))), ..Case::good(place)? };
    case.descriptor.signed = SignedManifest::from_canonical(documents()?.of_other_bytes.as_bytes())?;
    case.fails(REFUSED, "signature_wrong")
}

pub(crate) fn a_policy_of_two_rules_is_refused(place: &Place) -> Result<()> {
    let case = Case::good(place)?;
    let exact = case.policy.clone().context("a good case has a policy")?.to_command_line();
    let keyed = Policy::new(Rule::Key(key_rule()?)).to_command_line();
    for (command_line, reason) in [
        (format!("{exact} nexuserofs.key={}", documents()?.key), "policy_damaged"),
        (format!("{exact} nexuserofs.minimum_version=0"), "policy_damaged"),
        (format!("{exact} nexuserofs.uppers=none nexuserofs.uppers=device"), "command_line_damaged"),
        (format!("{exact},"), "command_line_damaged"),
        (format!("{keyed} nexuserofs.minimum_version=-1"), "command_line_damaged"),
        (format!("{exact} nexuserofs.Image_hash=x"), "command_line_damaged"),
        (format!("-- {exact}"), "policy_missing"),
    ] {
        Case { policy: None, command_line, ..Case::good(place)? }.fails(REFUSED, reason)?;
    }
    Ok(())
}

pub(crate) fn claims_of_other_layers_are_refused(place: &Place) -> Result<()> {
    let mut case = Case::good(place)?;
    let layers = case.descriptor.signed.manifest.layers().to_vec();
    for (source, layer) in case.sources().iter_mut().zip(layers.iter().rev()) {
        source.claim = Some(layer.fields().verity.clone());
    }
    case.fails(REFUSED, "parameters_differ")
}

pub(crate) fn an_image_without_layers_is_refused(place: &Place) -> Result<()> {
    let mut value: Value = serde_json::from_str(&Case::good(place)?.descriptor.to_json()?)?;
    value["signed"]["manifest"]["layers"] = json!([]);
    value["assembly"]["layers"] = json!([]);
    Case::good(place)?.fails_with(&value.to_string(), REFUSED, "descriptor_damaged")
}

pub(crate) fn a_description_without_end_is_refused(place: &Place) -> Result<()> {
    Case::good(place)?.from(Input::Source("/dev/zero".to_owned())).fails(REFUSED, "descriptor_damaged")
}

/// On a block device: no magic bytes, and lengths that are not there.
pub(crate) fn a_description_of_a_wrong_length_is_refused(place: &Place) -> Result<()> {
    let good = to_block(Case::good(place)?.descriptor.to_json()?.as_bytes());
    let with = |at: usize, bytes: &[u8]| {
        let mut block = good.clone();
        block[at..at + bytes.len()].copy_from_slice(bytes);
        block
    };
    for block in [
        with(0, b"N"),
        with(16, &u64::MAX.to_le_bytes()),
        with(16, &(1_u64 << 40).to_le_bytes()),
        with(16, &0_u64.to_le_bytes()),
        with(16, &7_u64.to_le_bytes()),
    ] {
        let disk = Loop::over(place, &block)?;
        let source = Input::Source(format!("block:path:{}", disk.device));
        Case::good(place)?.from(source).fails(REFUSED, "descriptor_damaged")?;
    }
    Ok(())
}

/// Kata's agent mounts without dm-verity what says nothing of it.
pub(crate) fn kata_without_dm_verity_is_checked_all_the_same(place: &Place) -> Result<()> {
    for (disk, works) in [("gpt", true), ("forged", false)] {
        let case = Case::good(place)?;
        let mut storages = storages(&case, disk)?;
        for storage in &mut storages {
            let options = storage["options"].as_array_mut().context("a storage has options")?;
            options.retain(|option| !option.as_str().unwrap_or_default().contains("dmverity"));
        }
        let case = case.from(Input::Kata(storages.into()));
        match works {
            true => case.works(whole)?,
            // The second partition has the newest layer's sectors.
            false => case.fails(VERITY, "layer_corrupted")?,
        }
    }
    Ok(())
}

pub(crate) fn kata_with_other_options_is_refused(place: &Place) -> Result<()> {
    let changed = |from: &str, to: &str| -> Result<Case> {
        let case = Case::good(place)?;
        let text = Value::from(storages(&case, "gpt")?).to_string();
        let other = text.replacen(from, to, 1);
        ensure!(other != text, "{from} is not there");
        Ok(case.from(Input::Kata(serde_json::from_str(&other)?)))
    };
    for (from, to) in [
        // A partition twice, one left out, and a number that none has.
        ("partition-number=2", "partition-number=1"),
        ("partition-number=3", "partition-number=4"),
        ("partition-number=1", "partition-number=0"),
        ("dmverity-enabled=true", "dmverity-enabled=maybe"),
        ("dmverity.no-superblock=false", "dmverity.check-at-most-once=true"),
        ("X-kata.overlay-lower", "X-kata.overlay-upper"),
        ("\"blk\"", "\"9p\""),
    ] {
        changed(from, to)?.fails(REFUSED, "storages_damaged")?;
    }
    for (from, to) in [
        ("dmverity.salt=00", "dmverity.salt=01"),
        ("dmverity.no-superblock=false", "dmverity.no-superblock=true"),
        ("dmverity.no-superblock=false", "dmverity.hashsize=512"),
    ] {
        changed(from, to)?.fails(REFUSED, "parameters_differ")?;
    }
    Ok(())
}

/// A layer that the manifest does not list, on a device of its own, is not an upper either.
pub(crate) fn a_layer_without_a_place_is_refused(place: &Place) -> Result<()> {
    let mut case = Case::good(place)?;
    let device = Query::Serial("scsi-l1".parse()?);
    case.sources().insert(0, LayerSource { device, claim: None });
    case.fails(REFUSED, "layer_count")
}
