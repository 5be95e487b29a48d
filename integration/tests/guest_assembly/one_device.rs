//! The whole image on one device: merged metadata, all layers, and one hash tree.

use std::fs::{self, File};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nexuserofs::expose::device::{self, Carrier, Chain, Form, Layout};
use nexuserofs::layer::LayerRecord;
use nexuserofs::layer::chain::shelf::IMAGE_NAME;
use nexuserofs::store::staging::StagingArea;
use nexuserofs::trust;
use nexuserofs_guest::canonical::Canonical as _;
use nexuserofs_guest::descriptor::{ImageSource, LayerSource, UpperSource};
use nexuserofs_guest::devices::{Query, Sysfs};
use nexuserofs_guest::manifest::{Fields as ManifestFields, Manifest, Merged, SignedManifest};
use nexuserofs_guest::verity::{BlockSize, Fields, Parameters, RootDigest, Salt};
use nexuserofs_integration::command::Run;
use nexuserofs_integration::guest::disk::Disk;
use nexuserofs_integration::guest::init::PAYLOAD;
use nexuserofs_integration::stage::Place;
use nexuserofs_integration::tree;

use crate::case::{Case, serial};
use crate::damage::input_output;
use crate::merged_chain;

const REFUSED: i32 = 3;
const VERITY: i32 = 5;

/// The manifest with the merged image, in the payload.
const MANIFEST: &str = "merged.json";

/// Makes the disks `image` (one file), `image-vmdk` and damaged copies, and puts the manifest into the payload.
pub(crate) fn disks(
    directory: &Path,
    payload: &Path,
    layers: &[(PathBuf, LayerRecord)],
    manifest: &Manifest,
) -> Result<Vec<Disk>> {
    let home = directory.join("chain");
    let staging = home.join("staging");
    fs::create_dir_all(&staging)?;
    let metadata = home.join(IMAGE_NAME);
    let files = layers.iter().map(|(path, record)| (path.clone(), record.verity));
    let built = merged_chain::merge(&metadata, files)?;
    let manifest = trust::merged(manifest, &built.outcome)?;
    fs::write(payload.join(MANIFEST), SignedManifest::from(manifest).to_canonical())?;

    let paths: Vec<PathBuf> = layers.iter().map(|(path, _)| path.clone()).collect();
    let chain = Chain { home: &home, metadata: Some(&metadata), layers: &paths };
    let staging = StagingArea::new(staging);
    let make = |carrier| {
        let form = Form { layout: Layout::Verified, carrier };
        device::make(form, chain, &staging, &mut |_| {})
    };
    let (flat, vmdk) = (make(Carrier::Flat)?, make(Carrier::Vmdk)?);
    let mut disks = vec![Disk::raw("image", &flat.path), Disk::of("vmdk", "image-vmdk", &vmdk.path)];

    let metadata_bytes = built.image.len() as u64;
    let tree = flat.bytes - built.tree.len() as u64;
    for (name, at) in [
        // In the superblock; in the middle of the oldest layer's own file; in the lowest level of the tree, which is
        // last; in the first bytes of dm-verity's superblock.
        ("image-meta", 1024 + 64),
        ("image-data", metadata_bytes + 200_000),
        ("image-tree", flat.bytes - 4096 + 64),
        ("image-superblock", tree),
    ] {
        let path = directory.join(name);
        fs::copy(&flat.path, &path)?;
        let file = File::options().read(true).write(true).open(&path)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at)?;
        file.write_all_at(&[byte[0] ^ 1], at)?;
        disks.push(Disk::raw(name, path));
    }
    let short = directory.join("image-short");
    fs::copy(&flat.path, &short)?;
    File::options().write(true).open(&short)?.set_len(flat.bytes - 4096)?;
    disks.push(Disk::raw("image-short", short));
    Ok(disks.into_iter().map(Disk::scsi).collect())
}

/// These disks are on the SCSI controller: a machine has no room for so many others.
fn on_scsi(name: &str) -> Result<Query> {
    Ok(Query::ScsiSerial(name.parse()?))
}

fn signed() -> Result<SignedManifest> {
    let text = fs::read(Path::new(PAYLOAD).join(MANIFEST))?;
    Ok(SignedManifest::from_canonical(&text)?)
}

/// The image on the disk of this serial, memory for what is written, and a policy for exactly this image.
fn on(place: &Place, name: &str) -> Result<Case> {
    let mut case = Case::good(place)?;
    case.descriptor.signed = signed()?;
    case.descriptor.assembly.image = ImageSource::Merged(LayerSource { device: on_scsi(name)?, claim: None });
    Ok(case.allowed())
}

fn everything(place: &Place, name: &str) -> Result<Case> {
    Ok(Case { flags: vec!["--read-everything"], ..on(place, name)? })
}

pub(crate) fn one_device_shows_what_the_layers_show(place: &Place) -> Result<()> {
    let read_only = |mut case: Case| {
        case.descriptor.assembly.upper = UpperSource::None;
        case
    };
    let mut layers = tree::Tree::default();
    read_only(Case::good(place)?).works(|root| {
        layers = tree::read(root)?;
        Ok(())
    })?;
    ensure!(layers.len() > 4, "the image has files");
    for name in ["image", "image-vmdk"] {
        read_only(on(place, name)?).works(|root| {
            let merged = tree::read(root)?;
            ensure!(merged == layers, "{name}: {merged:?} is not {layers:?}");
            let mounts = fs::read_to_string("/proc/self/mountinfo")?;
            ensure!(!mounts.contains(" overlay nexuserofs "), "one mount is enough");
            Ok(())
        })?;
    }
    Ok(())
}

/// The tree over metadata and layers is the one that veritysetup knows, and damage is damage to it too.
pub(crate) fn veritysetup_judges_one_device_alike(place: &Place) -> Result<()> {
    let manifest = on(place, "image")?.descriptor.signed.manifest;
    let verity = manifest.merged().context("a merged image")?.fields().verity.clone();
    let devices = Sysfs::default().block_devices()?;
    let verify = |name: &str| -> Result<Run> {
        let device = devices.find(&on_scsi(name)?)?.path();
        let offset = format!("--hash-offset={}", verity.data_bytes());
        let root = verity.fields().root_digest.hex();
        Ok(Run::new("veritysetup").arg("verify").args([&device, &device, &root, &offset]))
    };
    verify("image")?.run()?;
    ensure!(verify("image-data")?.run().is_err(), "a changed block is taken");
    ensure!(verify("image-meta")?.run().is_err(), "changed metadata is taken");
    Ok(())
}

pub(crate) fn one_device_is_written_over(place: &Place) -> Result<()> {
    on(place, "image")?.works(|root| {
        crate::whole(root)?;
        fs::write(root.join("newest"), "written")?;
        fs::remove_file(root.join("own-0"))?;
        ensure!(fs::read_to_string(root.join("newest"))? == "written" && !root.join("own-0").exists());
        Ok(())
    })?;
    on(place, "image")?.works(crate::whole)
}

/// A manifest that lists the merged image is one for guests that take layers, too.
pub(crate) fn its_manifest_serves_layers_too(place: &Place) -> Result<()> {
    let image = Case::good(place)?.descriptor.assembly.image;
    let mut case = on(place, "image")?;
    case.descriptor.assembly.image = image;
    case.works(crate::whole)
}

pub(crate) fn a_changed_block_of_one_device_is_an_error_when_it_is_read(place: &Place) -> Result<()> {
    on(place, "image-data")?.works(|root| {
        ensure!(fs::read(root.join("own-2"))? == crate::layers::own(2));
        input_output(fs::read(root.join("own-0")))
    })
}

pub(crate) fn changed_metadata_of_one_device_is_found(place: &Place) -> Result<()> {
    on(place, "image-meta")?.fails(VERITY, "layer_corrupted")
}

pub(crate) fn a_changed_block_of_one_device_is_found_before_anything_is_mounted(place: &Place) -> Result<()> {
    everything(place, "image-data")?.fails(VERITY, "layer_corrupted")
}

pub(crate) fn a_changed_tree_of_one_device_is_found(place: &Place) -> Result<()> {
    everything(place, "image-tree")?.fails(VERITY, "layer_corrupted")
}

pub(crate) fn the_superblock_on_one_device_means_nothing(place: &Place) -> Result<()> {
    everything(place, "image-superblock")?.works(crate::whole)
}

pub(crate) fn another_image_on_one_device_is_refused(place: &Place) -> Result<()> {
    on(place, "image-short")?.fails(REFUSED, "device_too_small")?;
    let mut layer = on(place, "image")?;
    layer.descriptor.assembly.image = ImageSource::Merged(LayerSource { device: serial("l0")?, claim: None });
    layer.fails(REFUSED, "device_too_small")
}

/// What the manifest does not list is not mounted, whatever the host says about it.
pub(crate) fn one_device_without_a_table_is_refused(place: &Place) -> Result<()> {
    let mut case = Case::good(place)?;
    case.descriptor.assembly.image =
        ImageSource::Merged(LayerSource { device: on_scsi("image")?, claim: None });
    case.fails(REFUSED, "not_merged")
}

/// The right root with each other parameter changed, in what the host claims and in the manifest.
pub(crate) fn other_parameters_of_one_device_are_refused(place: &Place) -> Result<()> {
    let right = signed()?.manifest.merged().context("a merged image")?.fields().verity.clone();
    let fields = right.fields();
    let one_less = NonZeroU64::new(fields.data_blocks.get() - 1).context("blocks")?;
    for changed in [
        Fields { data_blocks: one_less, ..fields.clone() },
        Fields { hash_start_block: fields.hash_start_block + 1, ..fields.clone() },
        Fields { salt: Salt::new(&[])?, ..fields.clone() },
        Fields { root_digest: RootDigest::Sha256([7; 32]), ..fields.clone() },
        Fields {
            hash_block_size: BlockSize::SECTOR,
            hash_start_block: fields.hash_start_block * 8,
            ..fields.clone()
        },
    ] {
        let changed = Parameters::new(changed)?;
        let mut claimed = on(place, "image")?;
        let claim = Some(changed.clone());
        claimed.descriptor.assembly.image =
            ImageSource::Merged(LayerSource { device: on_scsi("image")?, claim });
        claimed.fails(REFUSED, "parameters_differ")?;
        let mut listed = on(place, "image")?;
        let merged = Some(Merged::of(changed)?);
        let manifest = ManifestFields { merged, ..listed.descriptor.signed.manifest.fields().clone() };
        listed.descriptor.signed.manifest = Manifest::new(manifest)?;
        listed.fails(REFUSED, "image_hash_not_allowed")?;
    }
    Ok(())
}
