//! The whole image on one disk, and a disk that the guest encrypts.

use std::fs;

use anyhow::{Result, ensure};
use nexuserofs_guest::canonical::Canonical as _;
use nexuserofs_guest::descriptor::{ImageSource, LayerSource, UpperSource};
use nexuserofs_guest::manifest::SignedManifest;
use nexuserofs_guest::policy::UpperKind;
use nexuserofs_integration::stage::Place;

use crate::case::{Case, documents, serial};
use crate::damage::input_output;
use crate::named::of_the_large_layer;
use crate::whole;

const REFUSED: i32 = 3;
const VERITY: i32 = 5;

/// The image on this disk.
fn on_one_disk(place: &Place, disk: &str) -> Result<Case> {
    let mut case = Case::good(place)?;
    case.descriptor.signed = SignedManifest::from_canonical(documents()?.merged.as_bytes())?;
    case.descriptor.assembly.image = ImageSource::Merged(LayerSource { device: serial(disk)?, claim: None });
    Ok(case.allowed())
}

pub(crate) fn a_merged_image_is_put_together(place: &Place) -> Result<()> {
    on_one_disk(place, "merged")?.works(|root| {
        whole(root)?;
        fs::write(root.join("newest"), "written")?;
        ensure!(fs::read_to_string(root.join("newest"))? == "written");
        Ok(())
    })
}

pub(crate) fn a_changed_block_of_a_merged_image_is_an_error(place: &Place) -> Result<()> {
    on_one_disk(place, "merged-data")?.works(|root| {
        ensure!(fs::read(root.join("own-0"))? == crate::layers::own(0));
        input_output(fs::read(root.join("own-1")))
    })?;
    let case = on_one_disk(place, "merged-data")?;
    Case { flags: vec!["--read-everything"], ..case }.fails(VERITY, "layer_corrupted")
}

pub(crate) fn changed_metadata_of_a_merged_image_is_found(place: &Place) -> Result<()> {
    on_one_disk(place, "merged-metadata")?.fails(VERITY, "layer_corrupted")
}

/// A list of the same layers without the merged image, and one with another.
pub(crate) fn a_merged_image_of_another_list_is_refused(place: &Place) -> Result<()> {
    let mut unlisted = on_one_disk(place, "merged")?;
    unlisted.descriptor.signed = Case::good(place)?.descriptor.signed;
    unlisted.allowed().fails(REFUSED, "not_merged")?;
    let mut other = on_one_disk(place, "merged")?;
    let text = other.descriptor.to_json()?;
    let merged = other.descriptor.signed.manifest.fields().merged.clone();
    let root =
        merged.map(|merged| merged.fields().verity.fields().root_digest.to_string()).unwrap_or_default();
    let changed = text.replace(&root, &format!("sha256:{}", "7".repeat(64)));
    ensure!(changed != text, "the list has no merged image");
    other.fails_with(&changed, REFUSED, "image_hash_not_allowed")?;
    other = on_one_disk(place, "merged")?;
    other.descriptor.assembly.image = Case::good(place)?.descriptor.assembly.image;
    // The same list serves the layers on disks of their own.
    other.works(whole)
}

/// The writes go to this disk, encrypted, and the policy says so.
fn encrypted(mut case: Case, disk: &str) -> Result<Case> {
    case.descriptor.assembly.upper = UpperSource::Encrypted(serial(disk)?);
    if let Some(policy) = &mut case.policy {
        policy.uppers.insert(UpperKind::Encrypted);
    }
    Ok(case)
}

/// The host made a file system on it, with a file that hides one of the image's.
pub(crate) fn files_planted_on_an_encrypted_disk_are_not_there(place: &Place) -> Result<()> {
    for _ in 0..2 {
        encrypted(Case::good(place)?, "planted")?.works(|root| {
            whole(root)?;
            fs::write(root.join("newest"), "written")?;
            ensure!(fs::read_to_string(root.join("newest"))? == "written");
            Ok(())
        })?;
    }
    Ok(())
}

/// What would be written to it would be the layer's end.
pub(crate) fn an_encrypted_disk_that_is_a_layers_is_refused(place: &Place) -> Result<()> {
    encrypted(of_the_large_layer(place)?, "large")?.fails(REFUSED, "device_twice")?;
    of_the_large_layer(place)?.works(|_| Ok(()))
}

pub(crate) fn an_encrypted_disk_that_is_too_small_is_refused(place: &Place) -> Result<()> {
    encrypted(Case::good(place)?, "short")?.fails(REFUSED, "upper_too_small")
}
