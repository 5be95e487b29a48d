//! What is refused before anything is mounted.

use std::fs;
use std::num::NonZeroU64;

use anyhow::Result;
use nexuserofs_guest::canonical::Canonical as _;
use nexuserofs_guest::descriptor::UpperSource;
use nexuserofs_guest::dm::DeviceMapper;
use nexuserofs_guest::manifest::{Layer, LayerFields, SignedManifest};
use nexuserofs_guest::policy::{KeyRule, Policy, Rule};
use nexuserofs_guest::verity::{BlockSize, Fields, Parameters, RootDigest, Salt};
use nexuserofs_integration::stage::Place;

use crate::case::{Case, documents, key_rule, serial};

const REFUSED: i32 = 3;
const DEVICE: i32 = 4;
const VERITY: i32 = 5;

/// A case under a policy that takes what the key signed.
fn keyed(place: &Place, rule: impl FnOnce(KeyRule) -> Result<KeyRule>) -> Result<Case> {
    let policy = Policy::new(Rule::Key(rule(key_rule()?)?));
    Ok(Case { policy: Some(policy), ..Case::good(place)? })
}

pub(crate) fn layers_in_another_order_are_refused(place: &Place) -> Result<()> {
    let swapped = |case: Case| case.listing(|layers| layers.swap(0, 1))?.on(0, "l1")?.on(1, "l0");
    swapped(Case::good(place)?)?.fails(REFUSED, "image_hash_not_allowed")?;
    swapped(keyed(place, Ok)?)?.fails(REFUSED, "signed_another_image")
}

pub(crate) fn a_dropped_layer_is_refused(place: &Place) -> Result<()> {
    let mut fewer = Case::good(place)?;
    fewer.sources().pop();
    fewer.fails(REFUSED, "layer_count")?;
    let mut consistent = Case::good(place)?.listing(|layers| layers.truncate(2))?;
    consistent.sources().pop();
    consistent.fails(REFUSED, "image_hash_not_allowed")
}

pub(crate) fn an_added_layer_is_refused(place: &Place) -> Result<()> {
    let mut more = Case::good(place)?;
    let added = more.sources()[0].clone();
    more.sources().push(added.clone());
    more.fails(REFUSED, "layer_count")?;
    let mut consistent = keyed(place, Ok)?.listing(|layers| layers.push(layers[0].clone()))?;
    consistent.sources().push(added);
    consistent.fails(REFUSED, "signed_another_image")
}

pub(crate) fn a_doubled_layer_is_refused(place: &Place) -> Result<()> {
    Case::good(place)?
        .listing(|layers| layers[2] = layers[1].clone())?
        .on(2, "l1")?
        .fails(REFUSED, "image_hash_not_allowed")
}

/// The right root with each other parameter changed, in what the host claims and in the manifest.
pub(crate) fn other_parameters_are_refused(place: &Place) -> Result<()> {
    let right = Case::good(place)?.descriptor.signed.manifest.layers()[1].fields().clone();
    let fields = right.verity.fields();
    let one_less = NonZeroU64::new(fields.data_blocks.get() - 1).expect("a layer of blocks");
    let one = NonZeroU64::MIN;
    for changed in [
        Fields { data_blocks: one_less, ..fields.clone() },
        // A node of the tree as if it were data.
        Fields { data_blocks: one, ..fields.clone() },
        Fields { hash_start_block: fields.hash_start_block + 1, ..fields.clone() },
        Fields { salt: Salt::new(&[])?, ..fields.clone() },
        Fields { data_block_size: BlockSize::SECTOR, ..fields.clone() },
        Fields { root_digest: RootDigest::Sha256([7; 32]), ..fields.clone() },
        Fields { root_digest: RootDigest::Sha512([7; 64]), ..fields.clone() },
    ] {
        let changed = Parameters::new(changed)?;
        let mut claimed = Case::good(place)?;
        claimed.sources()[1].claim = Some(changed.clone());
        claimed.fails(REFUSED, "parameters_differ")?;
        let layer = Layer::of(right.diff_id, changed)?;
        Case::good(place)?.listing(|layers| layers[1] = layer)?.fails(REFUSED, "image_hash_not_allowed")?;
    }
    // A size that does not belong to the parameters is no manifest at all.
    let text = Case::good(place)?.descriptor.to_json()?;
    let LayerFields { size, .. } = right;
    let other = text.replace(&format!("\"size\":{size}"), &format!("\"size\":{}", size + 4096));
    Case::good(place)?.fails_with(&other, REFUSED, "descriptor_damaged")
}

pub(crate) fn an_unsigned_image_is_refused(place: &Place) -> Result<()> {
    let mut case = keyed(place, Ok)?;
    case.descriptor.signed.signatures.clear();
    case.fails(REFUSED, "unsigned")
}

pub(crate) fn an_image_of_another_signer_is_refused(place: &Place) -> Result<()> {
    let mut case = keyed(place, Ok)?;
    case.descriptor.signed = SignedManifest::from_canonical(documents()?.by_another.as_bytes())?;
    case.fails(REFUSED, "key_not_allowed")
}

pub(crate) fn an_expired_image_is_refused(place: &Place) -> Result<()> {
    let mut case = keyed(place, Ok)?;
    case.descriptor.signed = SignedManifest::from_canonical(documents()?.expired.as_bytes())?;
    case.fails(REFUSED, "expired")
}

pub(crate) fn an_older_version_is_refused(place: &Place) -> Result<()> {
    keyed(place, |rule| Ok(KeyRule { minimum_version: crate::layers::VERSION + 1, ..rule }))?
        .fails(REFUSED, "version_too_old")
}

pub(crate) fn another_image_of_the_signer_is_refused(place: &Place) -> Result<()> {
    keyed(place, |rule| Ok(KeyRule { names: ["registry.example/other".parse()?].into(), ..rule }))?
        .fails(REFUSED, "name_not_allowed")
}

pub(crate) fn a_changed_statement_is_refused(place: &Place) -> Result<()> {
    let newer = |rule: KeyRule| Ok(KeyRule { minimum_version: crate::layers::VERSION + 1, ..rule });
    let mut case = keyed(place, newer)?;
    case.descriptor.signed.signatures[0].statement.version += 1;
    case.fails(REFUSED, "signature_wrong")
}

pub(crate) fn without_a_policy_nothing_is_allowed(place: &Place) -> Result<()> {
    let none = || -> Result<Case> { Ok(Case { policy: None, ..Case::good(place)? }) };
    none()?.fails(REFUSED, "policy_missing")?;
    let unknown = Case { command_line: "nexuserofs.allow=all".to_owned(), ..none()? };
    unknown.fails(REFUSED, "command_line_damaged")?;
    let emptied = Case { command_line: "nexuserofs.image_hash=".to_owned(), ..none()? };
    emptied.fails(REFUSED, "command_line_damaged")
}

/// A host that appends to the command line cannot widen what a file in the guest says.
pub(crate) fn a_second_policy_is_refused(place: &Place) -> Result<()> {
    let case = Case::good(place)?;
    let policy = case.policy.clone().expect("a good case has one");
    let command_line = policy.to_command_line();
    Case { policy: None, command_line: command_line.clone(), ..case }.works(crate::whole)?;
    fs::create_dir_all("/etc/nexuserofs")?;
    let file = "/etc/nexuserofs/policy.json";
    fs::write(file, serde_json::to_vec(&policy)?)?;
    let both = Case { policy: None, command_line: command_line.clone(), ..Case::good(place)? };
    let ambiguous = both.fails(REFUSED, "policy_ambiguous");
    let alone = Case { policy: None, ..Case::good(place)? }.works(crate::whole);
    fs::remove_file(file)?;
    ambiguous.and(alone)?;
    let twice = format!("{command_line} {command_line}");
    Case { policy: None, command_line: twice, ..Case::good(place)? }.fails(REFUSED, "command_line_damaged")
}

pub(crate) fn an_upper_of_the_hosts_is_refused(place: &Place) -> Result<()> {
    let mut case = Case::good(place)?;
    case.descriptor.assembly.upper = UpperSource::Device(serial("upper")?);
    case.fails(REFUSED, "upper_not_allowed")
}

pub(crate) fn options_of_the_hosts_are_refused(place: &Place) -> Result<()> {
    let text = Case::good(place)?.descriptor.to_json()?;
    for (from, to) in [
        ("\"assembly\":{", "\"assembly\":{\"options\":[\"metacopy=on\",\"redirect_dir=follow\"],"),
        ("{\"tmpfs\":{", "{\"tmpfs\":{\"mode\":\"0777\","),
        ("{\"serial\":\"l1\"}", "{\"serial\":\"../l1\",\"extra\":1}"),
    ] {
        let changed = text.replace(from, to);
        assert_ne!(changed, text);
        Case::good(place)?.fails_with(&changed, REFUSED, "descriptor_damaged")?;
    }
    Ok(())
}

pub(crate) fn a_device_that_never_comes_is_an_error(place: &Place) -> Result<()> {
    Case::good(place)?.on(1, "never")?.fails(DEVICE, "device_missing")
}

pub(crate) fn two_devices_of_one_serial_are_refused(place: &Place) -> Result<()> {
    Case::good(place)?.on(1, "twin")?.fails(DEVICE, "device_ambiguous")
}

pub(crate) fn one_device_for_two_layers_is_refused(place: &Place) -> Result<()> {
    Case::good(place)?.on(2, "l1")?.fails(REFUSED, "device_twice")
}

pub(crate) fn a_device_that_is_too_short_is_refused(place: &Place) -> Result<()> {
    Case::good(place)?.on(1, "short")?.fails(REFUSED, "device_too_small")
}

/// A device that somebody made under our name is not taken for ours.
pub(crate) fn a_name_that_is_taken_is_an_error(place: &Place) -> Result<()> {
    let case = Case::good(place)?;
    let verity = &case.descriptor.signed.manifest.layers()[1].fields().verity;
    let devices = nexuserofs_guest::devices::Sysfs::default().block_devices()?;
    let over = devices.find(&serial("l1")?)?.number;
    let (mapper, name) = (DeviceMapper::open()?, "nexuserofs-root-1".parse()?);
    mapper.create_verity(&name, verity, over)?;
    let output = case.fails_keeping(VERITY, "device_name_taken", &name);
    mapper.remove(&name)?;
    output
}
