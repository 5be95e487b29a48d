//! `nexuserofs-guest` as the first process of a guest: the image is its root file system, or the guest is switched off.
//! Each test is a boot of Linux 6.12 in QEMU, or of Linux 6.1 where the name says so.
//!
//! * `ground`: machines, and the layers of images. * `case`: one boot, and how it ends.

// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod case;
mod ground;
#[path = "../../../tests/helpers/merged_chain.rs"]
mod merged_chain;

use std::fs;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use nexuserofs::trust::policy;
use nexuserofs_guest::descriptor::{ImageSource, UpperSource};
use nexuserofs_guest::devices::Query;
use nexuserofs_guest::manifest::UnixTime;
use nexuserofs_guest::policy::{KeyRule, UpperKind};
use nexuserofs_integration::guest::Release;
use nexuserofs_integration::guest::disk::Disk;

use case::{Case, VERSION, damage, rule, rule_of_another};
use ground::{Ground, MANY};

type Run = fn(&Ground) -> Result<()>;

const TESTS: &[(&str, Run)] = &[
    ("the_image_is_the_root_and_its_program_runs", |ground| Case::good(ground)?.runs()),
    ("a_policy_in_the_initramfs_is_enough", a_policy_in_the_initramfs_is_enough),
    ("a_policy_of_the_hosts_beside_it_ends_the_guest", a_policy_of_the_hosts_beside_it_ends_the_guest),
    ("without_a_policy_the_guest_is_switched_off", without_a_policy_the_guest_is_switched_off),
    ("a_dropped_layer_ends_the_guest", a_dropped_layer_ends_the_guest),
    ("a_damaged_disk_ends_the_guest", a_damaged_disk_ends_the_guest),
    ("a_signed_image_is_the_root", |ground| Case::good(ground)?.signed(Some(LATER), rule()?)?.runs()),
    ("an_expired_signature_ends_the_guest", an_expired_signature_ends_the_guest),
    ("a_version_below_the_policys_ends_the_guest", a_version_below_the_policys_ends_the_guest),
    ("a_signature_of_another_key_ends_the_guest", a_signature_of_another_key_ends_the_guest),
    ("a_full_gpt_has_128_layers", |ground| Case::partitioned(ground, MANY)?.runs()),
    ("a_merged_image_is_the_root", a_merged_image_is_the_root),
    ("a_merged_image_that_is_not_listed_ends_the_guest", a_merged_image_that_is_not_listed_ends_the_guest),
    (
        "what_is_written_to_an_encrypted_disk_is_not_seen_outside",
        what_is_written_to_an_encrypted_disk_is_not_seen_outside,
    ),
    (
        "an_encrypted_disk_that_the_policy_does_not_name_ends_the_guest",
        an_encrypted_disk_that_the_policy_does_not_name_ends_the_guest,
    ),
    ("linux_6_1_runs_the_image", |ground| Case::good(ground)?.on(Release::Linux6_1).runs()),
    ("linux_6_1_joins_100_layers_at_once", |ground| {
        Case::partitioned(ground, 100)?.on(Release::Linux6_1).runs()
    }),
    ("one_device_has_128_layers", |ground| Case::merged(ground, MANY)?.runs()),
    ("linux_6_1_is_too_old_for_one_device", |ground| {
        Case::merged(ground, 3)?.on(Release::Linux6_1).ends_for("kernel_too_old")
    }),
];

/// In the year 2100. The guest's clock is QEMU's, which is the machine's.
const LATER: UnixTime = UnixTime(4_102_444_800);

/// Size of the disk that the guest encrypts.
const UPPER_BYTES: usize = 16 << 20;

fn main() -> Result<ExitCode> {
    let arguments = Arguments::from_args();
    if arguments.list {
        let listed = TESTS.iter().map(|(name, _)| Trial::test(*name, || Ok(()))).collect();
        return Ok(libtest_mimic::run(&arguments, listed).exit_code());
    }
    let ground = Arc::new(Ground::prepare()?);
    let trial = |(name, run): &(&'static str, Run)| {
        let (ground, run) = (Arc::clone(&ground), *run);
        Trial::test(*name, move || run(&ground).map_err(|error| Failed::from(format!("{error:#}"))))
    };
    Ok(libtest_mimic::run(&arguments, TESTS.iter().map(trial).collect()).exit_code())
}

fn a_policy_in_the_initramfs_is_enough(ground: &Ground) -> Result<()> {
    let case = Case::good(ground)?;
    let file = Some(policy::json(&case.exact())?);
    Case { file, parameters: String::new(), ..case }.runs()
}

fn a_policy_of_the_hosts_beside_it_ends_the_guest(ground: &Ground) -> Result<()> {
    let case = Case::good(ground)?;
    let file = Some(policy::json(&case.exact())?);
    Case { file, ..case }.ends_for("policy_ambiguous")
}

fn without_a_policy_the_guest_is_switched_off(ground: &Ground) -> Result<()> {
    Case { parameters: String::new(), ..Case::good(ground)? }.ends_for("policy_missing")
}

fn a_dropped_layer_ends_the_guest(ground: &Ground) -> Result<()> {
    let mut case = Case::good(ground)?;
    if let ImageSource::Layers(layers) = &mut case.descriptor.assembly.image {
        layers.pop();
    }
    case.ends_for("layer_count")
}

fn a_merged_image_is_the_root(ground: &Ground) -> Result<()> {
    Case::merged_shell(ground)?.runs()
}

/// The guest's list has the layers only, so nothing says which merged image is theirs.
fn a_merged_image_that_is_not_listed_ends_the_guest(ground: &Ground) -> Result<()> {
    let mut case = Case::merged_shell(ground)?;
    case.descriptor.signed = Case::good(ground)?.descriptor.signed;
    case.allowed().ends_for("not_merged")
}

/// Whatever was on the disk means nothing, and the host finds nothing on it that it can read.
fn what_is_written_to_an_encrypted_disk_is_not_seen_outside(ground: &Ground) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("encrypted");
    fs::write(&file, vec![0xa5; UPPER_BYTES])?;
    let mut case = Case::good(ground)?.writing_to(UpperKind::Encrypted);
    case.disks.push(Disk::raw("upper", &file).writable());
    case.descriptor.assembly.upper = UpperSource::Encrypted(Query::Serial("upper".parse()?));
    case.runs()?;
    let left = fs::read(&file)?;
    ensure!(left.iter().any(|byte| *byte != 0xa5), "nothing was written to the disk");
    let text = b"written";
    ensure!(!left.windows(text.len()).any(|window| window == text), "the disk has what was written");
    Ok(())
}

fn an_encrypted_disk_that_the_policy_does_not_name_ends_the_guest(ground: &Ground) -> Result<()> {
    let mut case = Case::good(ground)?;
    case.descriptor.assembly.upper = UpperSource::Encrypted(Query::Serial("l0".parse()?));
    case.ends_for("upper_not_allowed")
}

fn a_damaged_disk_ends_the_guest(ground: &Ground) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut case = Case::good(ground)?;
    damage(&mut case, directory.path())?;
    case.ends_for("layer_corrupted")
}

fn an_expired_signature_ends_the_guest(ground: &Ground) -> Result<()> {
    Case::good(ground)?.signed(Some(UnixTime(1)), rule()?)?.ends_for("expired")
}

fn a_version_below_the_policys_ends_the_guest(ground: &Ground) -> Result<()> {
    let newer = KeyRule { minimum_version: VERSION + 1, ..rule()? };
    Case::good(ground)?.signed(None, newer)?.ends_for("version_too_old")
}

fn a_signature_of_another_key_ends_the_guest(ground: &Ground) -> Result<()> {
    Case::good(ground)?.signed(None, rule_of_another()?)?.ends_for("key_not_allowed")
}
