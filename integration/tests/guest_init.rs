//! `nexuserofs-guest` as the first process of a guest: the image is its root file system, or the guest is switched off.
//! Each test is a boot of Linux 6.12 in QEMU.

// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use nexuserofs::diff::offline;
use nexuserofs::layer::{HashTree, LayerRecord};
use nexuserofs::trust::{self, policy};
use nexuserofs_guest::descriptor::{Assembly, Descriptor, LayerSource, UpperSource, to_block};
use nexuserofs_guest::devices::Query;
use nexuserofs_guest::manifest::{Manifest, Platform};
use nexuserofs_guest::policy::{Policy, Rule};
use nexuserofs_integration::cache::Cache;
use nexuserofs_integration::guest::Release;
use nexuserofs_integration::guest::disk::Disk;
use nexuserofs_integration::guest::image_init::{Ended, Guest, Machine};
use nexuserofs_integration::host::TestHost;
use nexuserofs_integration::images::{Image, shell};
use nexuserofs_integration::progress::{Lines, Steps};
use tempfile::TempDir;

type Run = fn(&Ground) -> Result<()>;

const TESTS: &[(&str, Run)] = &[
    ("the_image_is_the_root_and_its_program_runs", the_image_is_the_root_and_its_program_runs),
    ("a_policy_in_the_initramfs_is_enough", a_policy_in_the_initramfs_is_enough),
    ("a_policy_of_the_hosts_beside_it_ends_the_guest", a_policy_of_the_hosts_beside_it_ends_the_guest),
    ("without_a_policy_the_guest_is_switched_off", without_a_policy_the_guest_is_switched_off),
    ("a_dropped_layer_ends_the_guest", a_dropped_layer_ends_the_guest),
    ("a_damaged_disk_ends_the_guest", a_damaged_disk_ends_the_guest),
];

/// Writes what the image's files say to the second serial line, and switches the guest off.
const PROGRAM: &str = "-- /bin/sh -c \"exec >/dev/ttyS1 2>&1; cat /proc/mounts; wc -c </srv/marked; \
    echo written >/srv/written; cat /srv/written; test -e /srv/gone && echo there; \
    echo GUEST-EXIT 0; sleep 1; echo o >/proc/sysrq-trigger; sleep 60\"";

/// What all tests share.
struct Ground {
    machine: Machine,
    layers: Vec<(PathBuf, LayerRecord)>,
    manifest: Manifest,
    _scratch: TempDir,
}

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

impl Ground {
    fn prepare() -> Result<Self> {
        let (cache, steps) = (Cache::open()?, Steps::new(&Lines));
        let machine = Machine::prepare(&cache, Release::default(), &steps)?;
        let host = TestHost::prepare(&cache, &steps)?;
        let image = steps.run("image shell", || shell::make(&cache, &host.root))?;
        let scratch = tempfile::tempdir()?;
        let layers = layers(&image, scratch.path())?;
        let records: Vec<LayerRecord> = layers.iter().map(|(_, record)| record.clone()).collect();
        let platform = Platform { os: "linux".parse()?, architecture: "amd64".parse()?, variant: None };
        let manifest = trust::list(&records, None, platform)?;
        Ok(Self { machine, layers, manifest, _scratch: scratch })
    }

    fn descriptor(&self) -> Result<Descriptor> {
        let layer = |index: usize| {
            let device = Query::Serial(format!("l{index}").parse()?);
            Ok(LayerSource { device, claim: None })
        };
        let layers = (0..self.layers.len()).map(layer).collect::<Result<_>>()?;
        let assembly = Assembly { layers, upper: UpperSource::Tmpfs { size: None } };
        Ok(Descriptor { signed: self.manifest.clone().into(), assembly })
    }

    fn policy(&self) -> Policy {
        Policy::new(Rule::Exact([self.manifest.image_hash()].into()))
    }

    /// Boots with the layers, the description on a disk, and these.
    fn boot(
        &self,
        descriptor: &Descriptor,
        policy: &str,
        file: Option<&str>,
        damaged: bool,
    ) -> Result<Ended> {
        let scratch = tempfile::tempdir()?;
        let directory = scratch.path();
        let mut disks = Vec::new();
        for (index, (layer, record)) in self.layers.iter().enumerate() {
            let path = if damaged { damage(directory, index, layer, record)? } else { layer.clone() };
            disks.push(Disk::raw(format!("l{index}"), path));
        }
        let block = directory.join("descriptor");
        fs::write(&block, to_block(descriptor.to_json()?.as_bytes()))?;
        disks.push(Disk::raw("descriptor", block));
        let files: Vec<(&str, &[u8])> =
            file.iter().map(|text| ("etc/nexuserofs/policy.json", text.as_bytes())).collect();
        let parameters = format!("nexuserofs.descriptor=block:serial:descriptor {policy} {PROGRAM}");
        self.machine.boot(&Guest { disks: &disks, files: &files, parameters: &parameters, directory })
    }
}

fn layers(image: &Image, directory: &Path) -> Result<Vec<(PathBuf, LayerRecord)>> {
    let layer = |(index, layer): (usize, nexuserofs_integration::images::Layer)| {
        let blob = image.layout.join("blobs").join(layer.blob.digest.replace(':', "/"));
        let path = directory.join(format!("layer-{index}.erofs"));
        let converted = offline::convert(&mut File::open(blob)?, &path, HashTree::With)?;
        Ok((path, converted.record))
    };
    image.layers()?.into_iter().enumerate().map(layer).collect()
}

/// A copy with one bit changed in the EROFS superblock, which mounting reads.
fn damage(directory: &Path, index: usize, layer: &Path, record: &LayerRecord) -> Result<PathBuf> {
    ensure!(record.verity.is_some(), "a layer without a tree");
    let path = directory.join(format!("damaged-{index}.erofs"));
    fs::copy(layer, &path)?;
    let file = File::options().read(true).write(true).open(&path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, 1024 + 64)?;
    file.write_all_at(&[byte[0] ^ 1], 1024 + 64)?;
    Ok(path)
}

/// The guest was switched off before anything of the image ran, and told why on the console.
fn ended_for(ended: &Ended, reason: &str) -> Result<()> {
    ensure!(ended.code.is_none() && ended.printed.is_empty(), "the image's program ran: {ended:?}");
    let told = format!("\"reason\":\"{reason}\"");
    ensure!(ended.console.contains(&told), "expected {reason}; the console: {}", ended.console);
    Ok(())
}

fn ran(ended: &Ended) -> Result<()> {
    let has = |line: &str| ended.printed.iter().any(|printed| printed.contains(line));
    ensure!(ended.code == Some(0), "{ended:?}");
    let root = ended.printed.iter().find(|line| line.starts_with("nexuserofs / overlay "));
    let root = root.with_context(|| format!("the root is no overlay of ours: {ended:?}"))?;
    ensure!(!root.contains("metacopy=on"), "{root}");
    ensure!(has("262144"), "the second layer's file: {ended:?}");
    ensure!(has("written"), "nothing can be written: {ended:?}");
    ensure!(!has("there"), "a file that the second layer takes away is there: {ended:?}");
    Ok(())
}

fn the_image_is_the_root_and_its_program_runs(ground: &Ground) -> Result<()> {
    let policy = ground.policy().to_command_line();
    ran(&ground.boot(&ground.descriptor()?, &policy, None, false)?)
}

fn a_policy_in_the_initramfs_is_enough(ground: &Ground) -> Result<()> {
    let policy = policy::json(&ground.policy())?;
    ran(&ground.boot(&ground.descriptor()?, "", Some(&policy), false)?)
}

fn a_policy_of_the_hosts_beside_it_ends_the_guest(ground: &Ground) -> Result<()> {
    let policy = policy::json(&ground.policy())?;
    let other = ground.policy().to_command_line();
    ended_for(&ground.boot(&ground.descriptor()?, &other, Some(&policy), false)?, "policy_ambiguous")
}

fn without_a_policy_the_guest_is_switched_off(ground: &Ground) -> Result<()> {
    ended_for(&ground.boot(&ground.descriptor()?, "", None, false)?, "policy_missing")
}

fn a_dropped_layer_ends_the_guest(ground: &Ground) -> Result<()> {
    let mut descriptor = ground.descriptor()?;
    descriptor.assembly.layers.pop();
    let policy = ground.policy().to_command_line();
    ended_for(&ground.boot(&descriptor, &policy, None, false)?, "layer_count")
}

fn a_damaged_disk_ends_the_guest(ground: &Ground) -> Result<()> {
    let policy = ground.policy().to_command_line();
    ended_for(&ground.boot(&ground.descriptor()?, &policy, None, true)?, "layer_corrupted")
}
