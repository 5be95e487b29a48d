//! `nexuserofs-guest mount` in a guest, against real device-mapper, EROFS and overlayfs of Linux 6.12: an image is put
//! together, and whatever a host might do to it is refused, or an error on the first wrong block.
//!
//! `docs/threat-model.md` has these tests by the attacks that they are.
//!
//! * `layers`, `disks`, `forged_table`: the image and its disks. * `case`: one run of the program. * `named`: devices by
//!   everything that names them. * `refused`, `tampered`: what is not allowed. * `damage`: disks that are not what they
//!   should be. * `overlays`: many layers. * `one_device`: the whole image on one. * `filled_up`: an image of one layer as
//!   Kata is given it. * `encrypted`, `linked`: what is written to a disk of the host's.

// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code)] // A test here needs little of what the tests of tars do.
#[path = "../../../tests/tar_semantics/archive.rs"]
mod archive;
mod case;
mod damage;
mod disks;
mod encrypted;
mod filled_up;
mod forged_table;
#[allow(dead_code)] // And of what the tests of Kata's rules do.
#[path = "../../../tests/policy/host.rs"]
mod host;
#[allow(dead_code)]
#[path = "../../../tests/policy/kata.rs"]
mod kata;
mod layers;
mod linked;
#[path = "../../../tests/helpers/merged_chain.rs"]
mod merged_chain;
mod named;
mod one_device;
mod overlays;
mod refused;
mod tampered;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use nexuserofs_guest::descriptor::UpperSource;
use nexuserofs_guest::policy::{Rule, UpperKind};
use nexuserofs_integration::guest::harness::{self, Needs, Test};
use nexuserofs_integration::stage::Place;

use case::{Case, key_rule, serial};

macro_rules! tests {
    ($($module:ident :: $name:ident),* $(,)?) => {
        &[$(Test { name: stringify!($name), run: $module::$name }),*]
    };
}

const TESTS: &[Test] = tests![
    good::an_allowed_image_is_put_together_and_taken_apart,
    good::a_signed_image_is_put_together,
    good::nothing_is_written_without_an_upper,
    good::a_single_layer_needs_no_overlay,
    good::the_same_layer_twice_is_put_together,
    good::an_upper_of_the_hosts_is_used_if_the_policy_says_so,
    refused::layers_in_another_order_are_refused,
    refused::a_dropped_layer_is_refused,
    refused::an_added_layer_is_refused,
    refused::a_doubled_layer_is_refused,
    refused::other_parameters_are_refused,
    refused::an_unsigned_image_is_refused,
    refused::an_image_of_another_signer_is_refused,
    refused::an_expired_image_is_refused,
    refused::an_older_version_is_refused,
    refused::another_image_of_the_signer_is_refused,
    refused::a_changed_statement_is_refused,
    refused::without_a_policy_nothing_is_allowed,
    refused::a_second_policy_is_refused,
    refused::an_upper_of_the_hosts_is_refused,
    refused::options_of_the_hosts_are_refused,
    refused::a_device_that_never_comes_is_an_error,
    refused::two_devices_of_one_serial_are_refused,
    refused::one_device_for_two_layers_is_refused,
    refused::a_device_that_is_too_short_is_refused,
    refused::a_name_that_is_taken_is_an_error,
    damage::a_changed_block_is_an_error_when_it_is_read,
    damage::a_changed_block_of_a_single_layer_is_an_error,
    damage::a_changed_block_is_found_before_anything_is_mounted,
    damage::a_changed_tree_is_found,
    damage::the_superblock_of_the_host_means_nothing,
    damage::swapped_disks_are_found,
    damage::a_tree_that_is_data_is_refused_by_its_length,
    named::partitions_are_found_by_name,
    named::a_disk_is_found_by_its_scsi_page,
    named::a_disk_is_found_by_its_path,
    named::what_kata_hands_on_is_put_together,
    named::a_layer_beyond_two_gibibytes_is_put_together,
    tampered::a_description_that_changes_is_read_once,
    tampered::a_device_that_changes_later_is_an_error,
    tampered::partitions_of_one_name_are_refused,
    tampered::overlapping_partitions_are_found,
    tampered::a_partition_behind_the_end_of_its_disk_is_refused,
    tampered::another_file_system_in_a_layers_place_is_found,
    tampered::a_tree_that_was_cut_off_is_found,
    tampered::an_upper_that_is_a_layers_disk_is_refused,
    tampered::doubled_keys_are_refused,
    tampered::sizes_that_nothing_has_are_refused,
    tampered::a_signature_of_other_bytes_is_refused,
    tampered::a_policy_of_two_rules_is_refused,
    tampered::claims_of_other_layers_are_refused,
    tampered::an_image_without_layers_is_refused,
    tampered::a_description_without_end_is_refused,
    tampered::a_description_of_a_wrong_length_is_refused,
    tampered::kata_without_dm_verity_is_checked_all_the_same,
    tampered::kata_with_other_options_is_refused,
    tampered::a_layer_without_a_place_is_refused,
    one_device::one_device_shows_what_the_layers_show,
    one_device::veritysetup_judges_one_device_alike,
    one_device::one_device_is_written_over,
    one_device::its_manifest_serves_layers_too,
    one_device::a_changed_block_of_one_device_is_an_error_when_it_is_read,
    one_device::changed_metadata_of_one_device_is_found,
    one_device::a_changed_block_of_one_device_is_found_before_anything_is_mounted,
    one_device::a_changed_tree_of_one_device_is_found,
    one_device::the_superblock_on_one_device_means_nothing,
    one_device::another_image_on_one_device_is_refused,
    one_device::one_device_without_a_table_is_refused,
    one_device::other_parameters_of_one_device_are_refused,
    encrypted::an_encrypted_upper_keeps_what_is_written_from_the_host,
    encrypted::nothing_of_an_earlier_upper_is_read,
    encrypted::an_encrypted_upper_holds_many_files,
    encrypted::a_changed_block_of_an_encrypted_upper_is_noise,
    encrypted::an_encrypted_upper_has_to_be_allowed,
    encrypted::an_encrypted_disk_that_is_a_layers_is_refused,
    encrypted::an_encrypted_disk_around_layers_is_refused,
    encrypted::an_encrypted_disk_that_is_too_small_is_refused,
    encrypted::an_encrypted_upper_that_cannot_be_made_is_an_error,
    linked::an_upper_that_leads_out_of_its_disk_is_refused,
    filled_up::a_single_layer_is_put_together_as_kata_is_given_it,
    filled_up::an_empty_layer_on_top_is_refused,
    filled_up::more_empty_layers_are_refused,
    filled_up::another_table_of_the_empty_layer_is_refused,
    filled_up::another_layer_in_the_empty_ones_place_is_found,
    filled_up::an_empty_layer_that_is_listed_has_its_place,
    overlays::two_hundred_layers_are_joined_one_by_one,
    overlays::a_hundred_layers_are_joined_at_once,
];

/// How long all tests may take: a minute or two on an idle machine.
const DEADLINE: Duration = Duration::from_secs(1200);

fn main() -> Result<ExitCode> {
    harness::main(Needs { disks: layers::prepare, deadline: DEADLINE, ..Needs::default() }, TESTS)
}

/// Whether the image's files are there, those of the newest layer in front.
fn whole(root: &Path) -> Result<()> {
    for index in 0..3 {
        ensure!(fs::read(root.join(format!("own-{index}")))? == layers::own(index), "layer {index}");
    }
    ensure!(fs::read_to_string(root.join("newest"))? == "2");
    Ok(())
}

/// What is allowed.
mod good {
    use super::*;

    pub(super) fn an_allowed_image_is_put_together_and_taken_apart(place: &Place) -> Result<()> {
        Case::good(place)?.works(|root| {
            whole(root)?;
            fs::write(root.join("newest"), "written")?;
            ensure!(fs::read_to_string(root.join("newest"))? == "written");
            fs::remove_file(root.join("own-0"))?;
            ensure!(!root.join("own-0").exists());
            Ok(())
        })?;
        // What was written went with its memory.
        Case::good(place)?.works(whole)
    }

    pub(super) fn a_signed_image_is_put_together(place: &Place) -> Result<()> {
        let mut case = Case::good(place)?;
        let rule = nexuserofs_guest::policy::KeyRule {
            minimum_version: layers::VERSION,
            names: [layers::NAME.parse()?].into(),
            ..key_rule()?
        };
        case.policy = Some(nexuserofs_guest::policy::Policy::new(Rule::Key(rule)));
        case.works(whole)
    }

    pub(super) fn nothing_is_written_without_an_upper(place: &Place) -> Result<()> {
        let mut case = Case::good(place)?;
        case.descriptor.assembly.upper = UpperSource::None;
        case.works(|root| {
            whole(root)?;
            let error = fs::write(root.join("newest"), "written").unwrap_err();
            ensure!(error.kind() == std::io::ErrorKind::ReadOnlyFilesystem, "{error}");
            Ok(())
        })
    }

    pub(super) fn a_single_layer_needs_no_overlay(place: &Place) -> Result<()> {
        let mut case = Case::good(place)?.listing(|layers| layers.truncate(1))?;
        case.sources().truncate(1);
        case.descriptor.assembly.upper = UpperSource::None;
        case.allowed().works(|root| {
            ensure!(fs::read(root.join("own-0"))? == layers::own(0));
            ensure!(!root.join("own-1").exists());
            Ok(())
        })
    }

    pub(super) fn the_same_layer_twice_is_put_together(place: &Place) -> Result<()> {
        let case = Case::good(place)?.listing(|layers| layers[2] = layers[1].clone())?.on(2, "l1")?;
        case.allowed().works(|root| {
            ensure!(fs::read_to_string(root.join("newest"))? == "1");
            Ok(())
        })
    }

    pub(super) fn an_upper_of_the_hosts_is_used_if_the_policy_says_so(place: &Place) -> Result<()> {
        let mut case = Case::good(place)?;
        case.descriptor.assembly.upper = UpperSource::Device(serial("upper")?);
        if let Some(policy) = &mut case.policy {
            policy.uppers.insert(UpperKind::Device);
        }
        case.works(|root| {
            // This is why a guest that does not trust its host refuses it.
            ensure!(fs::read_to_string(root.join("newest"))? == "planted");
            Ok(())
        })
    }
}
