//! A guest as containerd host: what the machine's own kernel may lack, dm-verity, fs-verity and project quotas.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nexuserofs_guest::dm::{self, DeviceMapper, Table};
use nexuserofs_guest::verity::{BlockSize, Fields, Parameters, RootDigest, Salt};
use nexuserofs_integration::bed::Profile;
use nexuserofs_integration::cargo::{self, Tests};
use nexuserofs_integration::command::Run;
use nexuserofs_integration::guest::Workshop;
use nexuserofs_integration::guest::disk::Disk;
use nexuserofs_integration::guest::harness::{self, Needs, Test, image};
use nexuserofs_integration::guest::init::{PAYLOAD, kernel_log};
use nexuserofs_integration::harness::eventually;
use nexuserofs_integration::images::shell::{self, MARKED};
use nexuserofs_integration::node::{DaemonOptions, HOST_SNAPSHOTTER, Node, NodeOptions, Pull, SNAPSHOTTER};
use nexuserofs_integration::own_tests::OwnTests;
use nexuserofs_integration::stage::Place;

const TESTS: &[Test] = &[
    Test { name: "the_kernel_has_dm_verity", run: |_| device_mapper() },
    Test { name: "devices_are_as_veritysetup_makes_them", run: as_veritysetup },
    Test { name: "project_quotas_limit_directories", run: |place| own(QUOTAS, place) },
    Test { name: "the_daemon_mounts_checked_layers", run: |place| own(CHECKED_MOUNTS, place) },
    Test { name: "the_kernel_seals_files", run: |place| own(SEALS, place) },
    Test { name: "layers_are_sealed_and_measured", run: |place| own(PROTECTION, place) },
    Test { name: "the_mount_manager_checks_layers", run: |place| tampered(place, SNAPSHOTTER) },
    Test { name: "the_host_flavour_checks_layers", run: |place| tampered(place, HOST_SNAPSHOTTER) },
    Test { name: "a_sealed_layer_is_neither_changed_nor_replaced", run: sealed },
];

/// containerd's namespace.
const NAMESPACE: &str = "vm";

/// The programs of our own tests, in the payload.
const MOUNTS: &str = "host";
const LIBRARY: &str = "library";

const QUOTAS: OwnTests = OwnTests { program: MOUNTS, word: "quotas::", may_skip: &[] };
const CHECKED_MOUNTS: OwnTests =
    OwnTests { program: MOUNTS, word: "verity::", may_skip: &["where_the_kernel_cannot"] };
const SEALS: OwnTests = OwnTests { program: LIBRARY, word: "sys::fs_verity", may_skip: &[] };
const PROTECTION: OwnTests =
    OwnTests { program: LIBRARY, word: "snapshot::tests::protection", may_skip: &["without_fs_verity"] };

/// Nothing runs on a layer that cannot be checked.
const SETTINGS: &str = r#"
[profiles.nexuserofs]
verity = "require"

[profiles.nexuserofs-host]
flavour = "host"
verity = "require"
"#;

fn main() -> Result<ExitCode> {
    let needs = Needs {
        programs: Some(Profile::Debug),
        disks: carry,
        deadline: Duration::from_secs(600),
        ..Needs::default()
    };
    harness::main(needs, TESTS)
}

fn carry(workshop: &Workshop<'_>) -> Result<Vec<Disk>> {
    let image = workshop.steps.run("image shell", || shell::make(workshop.cache, &workshop.host.root))?;
    workshop.carry(&image)?;
    for (name, tests) in [(MOUNTS, Tests::Named("host")), (LIBRARY, Tests::Library)] {
        let what = format!("our own tests, {name}");
        let program = workshop.steps.run(&what, || cargo::test_program("nexuserofs", tests))?;
        let copied = fs::copy(&program, workshop.payload.join(name));
        copied.with_context(|| format!("copy {}", program.display()))?;
    }
    Ok(Vec::new())
}

fn device_mapper() -> Result<()> {
    let version = DeviceMapper::open()?.verity_version()?.context("dm-verity is not loaded")?;
    ensure!(version.major == 1, "{version:?}");
    Ok(())
}

/// What veritysetup makes of a tree of its own, and what we make of the same parameters.
fn as_veritysetup(place: &Place) -> Result<()> {
    let file = place.scratch.join("veritysetup");
    fs::write(&file, shell::pattern())?;
    let blocks = shell::pattern().len() as u64 / 4096;
    let salt = "5a".repeat(32);
    let shown = |run: Run| run.output().map(|text| text.trim().to_owned());
    let attached = Run::new("losetup").args(["--find", "--show"]).arg(&file);
    File::options().write(true).open(&file)?.set_len((blocks + 16) * 4096)?;
    let device = shown(attached)?;
    let (area, count) = (format!("--hash-offset={}", blocks * 4096), format!("--data-blocks={blocks}"));
    let format = ["format", &area, &count, "--salt", &salt, &device, &device];
    let printed = Run::new("veritysetup").args(format).output()?;
    let root = printed.lines().find_map(|line| line.strip_prefix("Root hash:"));
    let root = root.context("veritysetup told no root hash")?.trim().to_owned();
    let parameters = Parameters::new(Fields {
        root_digest: RootDigest::from_parts("sha256", &root)?,
        salt: Salt::new(&[0x5a; 32])?,
        data_block_size: BlockSize::PAGE,
        hash_block_size: BlockSize::PAGE,
        data_blocks: blocks.try_into()?,
        hash_start_block: blocks + 1,
    })?;

    let mapper = DeviceMapper::open()?;
    let (ours, theirs) = ("ours".parse()?, "theirs".parse()?);
    Run::new("veritysetup").args(["open", &area, &device, "theirs", &device, &root]).run()?;
    let expected = mapper.table(&theirs)?.context("veritysetup made no device")?;
    Run::new("veritysetup").args(["close", "theirs"]).run()?;
    let number = fs::metadata(&device)?.rdev().into();
    ensure!(Table::of(&parameters, number) == expected, "{expected:?} is another table");
    let made = mapper.create_verity(&ours, &parameters, number)?;
    ensure!(mapper.find(&ours)? == Some(made), "the device is not found");
    ensure!(mapper.table(&ours)?.as_ref() == Some(&expected), "the device has another table");
    ensure!(mapper.create_verity(&ours, &parameters, number).is_err(), "a name was given twice");
    ensure!(fs::read(made.path())? == shell::pattern(), "the device shows something else");
    // Block devices are refused writing when they are written to, not when they are opened.
    let written = File::options().write(true).open(made.path()).and_then(|device| {
        device.write_all_at(&[0; 4096], 0)?;
        device.sync_all()
    });
    ensure!(written.is_err(), "the device takes writes");
    // veritysetup itself knows its own devices only, by their UUIDs.
    let status = Run::new("dmsetup").args(["status", "ours"]).output()?;
    ensure!(status.trim_end().ends_with("verity V"), "dmsetup says: {status}");
    mapper.remove(&ours)?;
    mapper.remove(&ours)?;
    // udev may look into it for a moment.
    eventually(|| Ok(mapper.find(&ours)?.map(|device| format!("{device:?} stays"))))?;

    // Nothing is left of a device that cannot be made, because its hashes would lie behind the end.
    let fields = parameters.fields().clone();
    let beyond = Parameters::new(Fields { hash_start_block: blocks + 1000, ..fields })?;
    let error = mapper.create_verity(&ours, &beyond, number).err().context("a device was made of nothing")?;
    ensure!(matches!(error, dm::Error::Refused { .. }), "it was refused with: {error}");
    ensure!(mapper.find(&ours)?.is_none(), "half a device stays");
    Run::new("losetup").args(["--detach", &device]).run()
}

/// On a file system that seals files.
fn own(tests: OwnTests, place: &Place) -> Result<()> {
    tests.run(Path::new(PAYLOAD), &place.scratch)
}

/// Pull and run; then a byte of a layer changes.
fn tampered(place: &Place, snapshotter: &str) -> Result<()> {
    let daemon = DaemonOptions { settings: Some(SETTINGS.to_owned()), ..DaemonOptions::default() };
    let options = NodeOptions { daemon: Some(daemon), ..NodeOptions::default() };
    let mut node = Node::start(place, snapshotter, &options)?;
    let image = node.push(&image("shell"))?;
    node.containerd.pull(NAMESPACE, snapshotter, Pull::Transfer, &image)?;
    let read_all = ["/bin/sh", "-c", "cat /srv/* | wc -c"];
    let printed = node.containerd.run(NAMESPACE, snapshotter, &image, "whole", &read_all)?;
    ensure!(printed.trim() == "362144", "the container printed {printed:?}");

    let damaged = tamper(&node.daemon()?.layers()?)?;
    // What was read before the change may still be in memory.
    fs::write("/proc/sys/vm/drop_caches", "3")?;
    let error = node
        .containerd
        .run_container(NAMESPACE, snapshotter)
        .args(["--rm", image.as_str(), "tampered", "/bin/cat", &format!("/{MARKED}")])
        .fails()?;
    ensure!(error.contains("Input/output error"), "the container said: {error}");
    let log = kernel_log()?;
    ensure!(log.contains("is corrupted"), "the kernel said nothing: {log}");
    eventually(|| {
        let log = node.daemon.as_ref().context("no daemon")?.log()?;
        let told = log.lines().any(|line| line.contains("hash tree says") && line.contains(&damaged));
        Ok((!told).then(|| format!("no line about {damaged} in the daemon's log:\n{log}")))
    })?;

    node.containerd.remove_image(NAMESPACE, &image)?;
    eventually(|| {
        let left = layer_devices()?;
        Ok((!left.is_empty()).then(|| format!("devices were left: {left:?}")))
    })?;
    node.assert_nothing_left()
}

/// With fs-verity a layer's file is not written to, and no plan names another file in its place.
fn sealed(place: &Place) -> Result<()> {
    let settings = Some("enable_fsverity = true\n".to_owned());
    let daemon = DaemonOptions { settings, ..DaemonOptions::default() };
    let options = NodeOptions { daemon: Some(daemon), ..NodeOptions::default() };
    let mut node = Node::start(place, "sealed", &options)?;
    let image = node.push(&image("shell"))?;
    node.containerd.pull(NAMESPACE, SNAPSHOTTER, Pull::Transfer, &image)?;
    let read = ["/bin/cat", "/srv/whole"];
    node.containerd.run(NAMESPACE, SNAPSHOTTER, &image, "whole", &read)?;

    let layers = node.daemon()?.layers()?;
    let layer = layers.first().context("there is no layer")?;
    Run::new("chattr").arg("-i").arg(layer).run()?;
    let error = File::options().write(true).open(layer).err().context("a sealed file was opened to write")?;
    ensure!(error.kind() == ErrorKind::PermissionDenied, "a sealed file was refused with {error}");
    let copy = layer.with_extension("copy");
    fs::copy(layer, &copy)?;
    fs::rename(&copy, layer)?;
    let error = node
        .containerd
        .run_container(NAMESPACE, SNAPSHOTTER)
        .args(["--rm", image.as_str(), "replaced"])
        .args(read)
        .fails()?;
    ensure!(error.contains("fs-verity"), "a replaced file was refused with: {error}");
    node.containerd.remove_image(NAMESPACE, &image)?;
    node.assert_nothing_left()
}

/// Changes a byte of the marked file in the layer that has it, and returns the layer's key.
fn tamper(layers: &[PathBuf]) -> Result<String> {
    let pattern = shell::pattern();
    let mark = pattern.get(1 << 17..).and_then(|rest| rest.get(..64)).context("the pattern is short")?;
    for layer in layers {
        let Some(position) = fs::read(layer)?.windows(mark.len()).position(|window| window == mark) else {
            continue;
        };
        Run::new("chattr").arg("-i").arg(layer).run()?;
        File::options().write(true).open(layer)?.write_all_at(b"M", position as u64)?;
        let key = layer.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        return Ok(key.context("a layer's directory has no name")?.to_owned());
    }
    anyhow::bail!("no layer has the marked file: {layers:?}")
}

/// Names of device-mapper's devices that are of layers.
fn layer_devices() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir("/sys/block").context("read /sys/block")? {
        if let Ok(name) = fs::read_to_string(entry?.path().join("dm/name")) {
            names.push(name.trim_end().to_owned());
        }
    }
    names.retain(|name| name.contains("erofs"));
    Ok(names)
}
