//! A guest as containerd host: what the machine's own kernel may lack, dm-verity, fs-verity and project quotas.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nexuserofs_guest::dm::DeviceMapper;
use nexuserofs_integration::bed::Profile;
use nexuserofs_integration::cargo;
use nexuserofs_integration::command::Run;
use nexuserofs_integration::guest::Workshop;
use nexuserofs_integration::guest::disk::Disk;
use nexuserofs_integration::guest::harness::{self, Needs, Test, image};
use nexuserofs_integration::guest::init::{PAYLOAD, kernel_log};
use nexuserofs_integration::harness::eventually;
use nexuserofs_integration::images::shell::{self, MARKED};
use nexuserofs_integration::node::{DaemonOptions, HOST_SNAPSHOTTER, Node, NodeOptions, Pull, SNAPSHOTTER};
use nexuserofs_integration::stage::Place;

const TESTS: &[Test] = &[
    Test { name: "the_kernel_has_dm_verity", run: |_| device_mapper() },
    Test { name: "project_quotas_limit_directories", run: |_| own_tests("quotas", &["xfs_limits"]) },
    Test {
        name: "the_daemon_mounts_checked_layers",
        run: |_| own_tests("verity", &["where_the_kernel_cannot"]),
    },
    Test { name: "the_mount_manager_checks_layers", run: |place| tampered(place, SNAPSHOTTER) },
    Test { name: "the_host_flavour_checks_layers", run: |place| tampered(place, HOST_SNAPSHOTTER) },
];

/// containerd's namespace.
const NAMESPACE: &str = "vm";

/// The program with the tests of `tests/host`.
const OWN_TESTS: &str = "host";

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
    let tests = workshop.steps.run("the tests of mounts", || cargo::test_program("nexuserofs", OWN_TESTS))?;
    fs::copy(&tests, workshop.payload.join(OWN_TESTS))
        .with_context(|| format!("copy {}", tests.display()))?;
    Ok(Vec::new())
}

fn device_mapper() -> Result<()> {
    let version = DeviceMapper::open()?.verity_version()?.context("dm-verity is not loaded")?;
    ensure!(version.major == 1, "{version:?}");
    Ok(())
}

/// Runs those tests of ours whose names have this word. Only those with one of these words may be skipped here.
fn own_tests(word: &str, may_skip: &[&str]) -> Result<()> {
    let program = Path::new(PAYLOAD).join(OWN_TESTS);
    let (output, errors) = Run::new(program).args([word, "--test-threads=1"]).both()?;
    ensure!(!output.contains("running 0 tests"), "no test has {word} in its name");
    let skipped = errors.lines().filter_map(|line| line.strip_prefix("SKIPPED "));
    let unexpected: Vec<&str> =
        skipped.filter(|test| !may_skip.iter().any(|word| test.starts_with(word))).collect();
    ensure!(unexpected.is_empty(), "skipped where it should run: {unexpected:?}");
    Ok(())
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
        let left = DeviceMapper::open().map(|_| devices())??;
        Ok((!left.is_empty()).then(|| format!("devices were left: {left:?}")))
    })?;
    node.assert_nothing_left()
}

/// Changes a byte of the marked file in the layer that has it, and returns the layer's key.
fn tamper(layers: &[std::path::PathBuf]) -> Result<String> {
    let pattern = shell::pattern();
    let mark = pattern.get(1 << 17..).and_then(|rest| rest.get(..64)).context("the pattern is short")?;
    for layer in layers {
        let Some(position) = fs::read(layer)?.windows(mark.len()).position(|window| window == mark) else {
            continue;
        };
        File::options().write(true).open(layer)?.write_all_at(b"M", position as u64)?;
        let key = layer.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        return Ok(key.context("a layer's directory has no name")?.to_owned());
    }
    anyhow::bail!("no layer has the marked file: {layers:?}")
}

/// Names of device-mapper's devices.
fn devices() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir("/sys/block").context("read /sys/block")? {
        if let Ok(name) = fs::read_to_string(entry?.path().join("dm/name")) {
            names.push(name.trim_end().to_owned());
        }
    }
    Ok(names)
}
